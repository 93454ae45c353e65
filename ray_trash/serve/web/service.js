// What the page says to the server: the model, the scores, the key, and patience while the server is full.

const KEY = "ray-trash-api-key";
const TRIES = 6;
const LONGEST_WAIT_S = 30;
const BUSY = new Set([429, 503]);

// An answer other than 200; status 0 is no answer at all.
export class Refused extends Error {
  constructor(status, { code = "", message = "" } = {}) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let heldKey = "";

export function setKey(key) {
  heldKey = key;
  // A browser that blocks storage throws; the key then lives as long as the page.
  try {
    sessionStorage.setItem(KEY, key);
  } catch {}
}

export function authorization() {
  try {
    heldKey ||= sessionStorage.getItem(KEY) ?? "";
  } catch {}
  return heldKey ? { Authorization: `Bearer ${heldKey}` } : {};
}

export function loadModel(options) {
  return ask("v1/model", {}, options);
}

export function score(files, options) {
  const body = new FormData();
  for (const file of files) body.append("images", file, file.name);
  return ask("v1/score", { method: "POST", body }, options);
}

/** Asks until the server is neither full nor away; `onWait(seconds)` is told of each wait. */
async function ask(path, request, { signal, onWait }) {
  for (let attempt = 1; ; attempt += 1) {
    const refusal = await answer(path, { ...request, signal });
    if (!(refusal instanceof Refused)) return refusal;
    // A server that turns a body away without reading it can look like a lost connection: worth one more try.
    const again = BUSY.has(refusal.status) ? attempt < TRIES : refusal.status === 0 && attempt < 2;
    if (!again) throw refusal;
    onWait(refusal.seconds);
    await pause(refusal.seconds, signal);
  }
}

async function answer(path, request) {
  let response;
  try {
    response = await fetch(path, { ...request, headers: authorization(), cache: "no-store", redirect: "error" });
  } catch (error) {
    if (request.signal?.aborted) throw error;
    return Object.assign(new Refused(0), { seconds: 1 });
  }
  const body = await response.json().catch(() => null);
  request.signal?.throwIfAborted();
  if (response.ok && body !== null) return body;
  return Object.assign(new Refused(response.status, body?.error), { seconds: waitSeconds(response) });
}

// Retry-After is a number of seconds or a date.
function waitSeconds(response) {
  const header = response.headers.get("Retry-After") ?? "";
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Math.min(Math.max(Math.ceil(seconds || 1), 1), LONGEST_WAIT_S);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
