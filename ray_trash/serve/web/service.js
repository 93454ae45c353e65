// What the page says to the server: the model, the scores, the key, and patience while the server is full.

const KEY = "ray-trash-api-key";
const TRIES = 6;
// A model takes longer to load than a queue to drain.
const TRIES_WHILE_LOADING = 60;
const LONGEST_WAIT_S = 30;
const BUSY = new Set([429, 503]);
const TOO_MUCH = new Set([408, 413, 504, ...BUSY]);
// A connection that is lost later is lost to a server that waited for a body in vain; one that is away says so sooner.
const SLOW_MS = 10_000;

// An answer other than 200; status 0 is no answer at all.
export class Refused extends Error {
  constructor(status, { code = "", message = "" } = {}, seconds = 1) {
    super(message);
    this.status = status;
    this.code = code;
    this.seconds = seconds;
    // Whether the same photos, fewer at once, may be answered.
    this.wantsFewer = TOO_MUCH.has(status) && code !== "not_ready";
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

function authorization() {
  try {
    heldKey ||= sessionStorage.getItem(KEY) ?? "";
  } catch {}
  return heldKey ? { Authorization: `Bearer ${heldKey}` } : {};
}

export function loadModel(options) {
  return ask("v1/model", {}, options);
}

export function score(files, { explain, ...options }) {
  const body = new FormData();
  for (const file of files) body.append("images", file, file.name);
  return ask(explain ? "v1/score?explain=true" : "v1/score", { method: "POST", body }, options);
}

/**
 * Asks until the server is neither full nor away; `onWait` is told why, and how long, before each wait.
 *
 * With `hasFewer`, what fewer photos at once may change is left to who asks.
 */
async function ask(path, request, { signal, onWait, hasFewer = false }) {
  for (let attempt = 1; ; attempt += 1) {
    const given = await answer(path, { ...request, signal });
    if (!(given instanceof Refused)) return given;
    if (attempt >= triesFor(given) || (hasFewer && given.wantsFewer)) throw given;
    onWait(given);
    await pause(given.seconds, signal);
  }
}

function triesFor({ status, code }) {
  if (code === "not_ready") return TRIES_WHILE_LOADING;
  if (BUSY.has(status)) return TRIES;
  // A server that turns a body away without reading it can look like a lost connection: worth one more try.
  return status === 0 ? 2 : 1;
}

async function answer(path, request) {
  const started = performance.now();
  let response;
  try {
    response = await fetch(path, { ...request, headers: authorization(), cache: "no-store", redirect: "error" });
  } catch (error) {
    if (request.signal?.aborted) throw error;
    return new Refused(performance.now() - started > SLOW_MS ? 408 : 0);
  }
  const body = await response.json().catch(() => null);
  request.signal?.throwIfAborted();
  if (response.ok && body !== null) return body;
  return new Refused(response.status, body?.error, waitSeconds(response));
}

// Retry-After is a number of seconds or a date.
function waitSeconds(response) {
  const header = response.headers.get("Retry-After") ?? "";
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Math.min(Math.max(Math.ceil(seconds || 1), 1), LONGEST_WAIT_S);
}

export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
