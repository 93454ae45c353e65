// What codes and numbers mean, in words a person understands. Knows neither the page nor the server.

const PHOTO_ERRORS = {
  empty_file: "This file is empty.",
  not_a_regular_file: "This is a folder or something else, not a photo.",
  unreadable: "This file could not be read. It may have been moved or changed since you chose it.",
  unsupported_format: "This is not a photo the model can open. It takes JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF and HEIC.",
  undecodable: "This photo is damaged and cannot be opened.",
  truncated: "Part of this photo is missing. Copy or download it again.",
  too_many_pixels: "This photo has too many pixels. Make it smaller and try again.",
  too_large: "This file is larger than the server takes. Make it smaller and try again.",
  outside_root: "This file is outside the folder it should be in.",
};

const SERVER_ERRORS = {
  0: "The server cannot be reached. Check the connection and try again.",
  401: "The server asks for a key.",
  408: "Sending took too long. Try again over a faster connection, or with smaller photos.",
  413: PHOTO_ERRORS.too_large,
  415: "The server does not take this kind of file.",
  429: "The server is busy. Try again in a moment.",
  503: "The server is busy or not ready yet. Try again in a moment.",
  504: "The server took too long. Try again, perhaps with fewer photos.",
};

const WAITS = {
  0: "The server does not answer.",
  408: "Sending takes too long.",
  413: "This is more than the server takes at once.",
  504: "The server takes too long.",
};

export function photoError({ code, message }) {
  if (Object.hasOwn(PHOTO_ERRORS, code)) return PHOTO_ERRORS[code];
  return `This photo could not be used. ${message ?? ""}`.trim();
}

export function serverError({ status, message }) {
  return SERVER_ERRORS[status] ?? `The server could not answer (${status}). ${message ?? ""}`.trim();
}

export function waitReason({ status, code }) {
  if (code === "not_ready") return "The model is being loaded.";
  return WAITS[status] ?? "The server is busy.";
}

export function percent(share) {
  // Only a certain class is 100%, only an impossible one 0%.
  if (share > 0.999 && share < 1) return ">99.9%";
  if (share < 0.001 && share > 0) return "<0.1%";
  const digits = share >= 0.99 || share < 0.01 ? 1 : 0;
  return `${Number((100 * share).toFixed(digits))}%`;
}

export function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

// Photos that are done, told as "3 photos: 2 glass, 1 not sure"; a single one with its confidence.
export function summary(photos) {
  const outcome = ({ state, result }) => (state === "ok" ? result.label : state === "unsure" ? "not sure" : "failed");
  if (photos.length === 1) {
    const [{ name, state, result }] = photos;
    if (state === "error") return `${name}: could not be used.`;
    const guess = state === "unsure" ? `not sure, best guess ${result.label}` : result.label;
    return `${name}: ${guess}, ${percent(result.confidence)}.`;
  }
  const counts = new Map();
  for (const photo of photos) counts.set(outcome(photo), (counts.get(outcome(photo)) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([what, count]) => `${count} ${what}`);
  return `${counted(photos.length, "photo")}: ${parts.join(", ")}.`;
}
