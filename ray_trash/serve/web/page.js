// The upload page: photos come in, wait in a queue, go to the server a few at a time, and get their answers.

import { Photo } from "./card.js";
import { listen } from "./intake.js";
import { Refused, loadModel, pause, score, setKey } from "./service.js";
import { counted, percent, photoError, serverError, summary, waitReason } from "./words.js";

const MIB = 2 ** 20;
// Less than the server takes, so that answers come in while others wait.
const PHOTOS_AT_ONCE = 16;
const BYTES_AT_ONCE = 8 * MIB;
// A request that takes longer is halved next time, one that takes less doubled.
const SLOW_MS = 10_000;
const FAST_MS = 3_000;
// What multipart adds to a photo, beside its name.
const PART_BYTES = 512;
// Neighbours on the colour wheel are far apart, for any number of classes.
const GOLDEN_ANGLE = 137.508;

const element = (id) => document.getElementById(id);
const waitsForKey = () => !element("key-form").hidden;
const wantsMaps = () => element("explain").checked;
const colours = new Map();
let photos = [];
let queue = [];
let limits = null;
let atOnce = PHOTOS_AT_ONCE;
let run = null;

function say(words) {
  element("status").textContent = words;
}

function meet({ id, classes }) {
  element("model-id").textContent = id;
  element("model-line").hidden = element("model").hidden = false;
  if (classes.join("\n") === [...colours.keys()].join("\n")) return;
  colours.clear();
  classes.forEach((name, index) => colours.set(name, (160 + index * GOLDEN_ANGLE) % 360));
  element("classes").replaceChildren(
    ...classes.map((name) => {
      const item = document.createElement("li");
      item.textContent = name;
      item.style.setProperty("--hue", colours.get(name));
      return item;
    }),
  );
}

function add(files) {
  const added = files.map((file) => new Photo(file));
  if (added.length === 0) return;
  photos = [...added, ...photos];
  queue.push(...added);
  element("cards").prepend(...added.map((photo) => photo.node));
  element("clear").hidden = false;
  if (!waitsForKey()) work();
}

/** Meets the model, then answers the queue; one run at a time, and `clear` ends it. */
async function work() {
  if (run !== null) return;
  const mine = (run = new AbortController());
  const options = { signal: mine.signal, onWait: sayWait };
  element("again").hidden = true;
  try {
    if (limits === null) await learn(options);
    while (queue.length > 0) await answerSome(options);
    acceptKey();
    say(photos.length > 0 ? summary(photos) : "");
  } catch (error) {
    if (mine.signal.aborted) return;
    giveUp(error);
  } finally {
    if (run === mine) run = null;
    offerAgain();
  }
}

async function learn(options) {
  const model = await loadModel(options);
  meet(model);
  limits = { images: model.limits.max_batch_images, bytes: model.limits.max_body_mib * MIB };
  element("explain-option").hidden = !model.explain;
  element("promise").hidden = model.target_error === null;
  element("target-error").textContent = percent(model.target_error ?? 0);
}

async function answerSome(options) {
  const batch = await takeBatch(options.signal);
  if (batch.length === 0) return;
  for (const photo of batch) photo.look();
  const done = photos.filter((photo) => !["waiting", "looking"].includes(photo.state)).length;
  const slowly = atOnce < PHOTOS_AT_ONCE ? "; a few at a time" : "";
  say(`Looking at ${counted(photos.length, "photo")}, ${done} done${slowly} …`);
  const started = performance.now();
  try {
    const explain = wantsMaps();
    const given = { ...options, explain, hasFewer: batch.length > 1 };
    const answer = await score(batch.map((photo) => photo.file), given);
    if (answer.results?.length !== batch.length) throw new Refused(200, { message: "It left photos out." });
    meet(answer.model);
    batch.forEach((photo, index) => photo.answer(answer.results[index], colours));
    // Asked for while the answers were on their way.
    if (wantsMaps() && !explain) askForMaps();
    acceptKey();
    keepPace(performance.now() - started, batch.length);
  } catch (error) {
    if (options.signal.aborted) throw error;
    if (error.status === 401) {
      queue.unshift(...batch);
      throw error;
    }
    if (error.wantsFewer && batch.length > 1) {
      queue.unshift(...batch);
      for (const photo of batch) photo.wait();
      atOnce = Math.ceil(batch.length / 2);
      // The server takes less than it said.
      if (error.status === 413) limits = { ...limits, images: atOnce };
      sayWait(error, "with fewer photos ");
      await pause(error.seconds, options.signal);
      return;
    }
    if (!(error instanceof Refused)) throw error;
    for (const photo of batch) photo.refuseBecause(error);
  }
}

function keepPace(took, sent) {
  if (took > SLOW_MS) atOnce = Math.ceil(sent / 2);
  else if (took < FAST_MS) atOnce = Math.min(2 * atOnce, PHOTOS_AT_ONCE);
}

async function takeBatch(signal) {
  const batch = [];
  const most = Math.min(limits.bytes, (BYTES_AT_ONCE * atOnce) / PHOTOS_AT_ONCE);
  let bytes = PART_BYTES;
  while (queue.length > 0 && batch.length < Math.min(limits.images, atOnce)) {
    const photo = queue[0];
    const size = photo.file.size + 4 * photo.name.length + PART_BYTES;
    const tooLarge = PART_BYTES + size > limits.bytes;
    if (!tooLarge && batch.length > 0 && bytes + size > most) break;
    queue.shift();
    const code = tooLarge ? "too_large" : await unreadable(photo.file);
    signal.throwIfAborted();
    if (code === null) {
      bytes += size;
      batch.push(photo);
    } else {
      photo.refuse(photoError({ code }));
    }
  }
  return batch;
}

// A folder, or a file that is gone, would fail the whole request it is in, as if the connection were lost.
async function unreadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return null;
  } catch {
    return "unreadable";
  }
}

function giveUp(error) {
  const unfinished = photos.filter((photo) => ["waiting", "looking"].includes(photo.state));
  if (error.status === 401) {
    for (const photo of unfinished) photo.wait();
    const refused = element("key").value !== "";
    limits = null;
    element("key-form").hidden = false;
    element("key").focus();
    element("key-problem").textContent = refused ? "The server did not accept this key." : "";
    say("");
    return;
  }
  queue = [];
  const refusal = error instanceof Refused ? error : new Refused(200, { message: "Reload the page." });
  for (const photo of unfinished) photo.refuseBecause(refusal);
  say(serverError(refusal));
}

function sayWait(refusal, how = "") {
  say(`${waitReason(refusal)} Trying again ${how}in ${counted(refusal.seconds, "second")} …`);
}

function offerAgain() {
  const failed = photos.some((photo) => photo.mayTryAgain);
  element("again").hidden = run !== null || waitsForKey() || !(failed || limits === null);
}

function tryAgain() {
  const failed = photos.filter((photo) => photo.mayTryAgain);
  for (const photo of failed) photo.wait();
  queue.push(...failed);
  work();
}

function askForMaps() {
  const without = photos.filter((photo) => photo.lacksMap);
  for (const photo of without) photo.wait();
  queue.push(...without);
}

function toggleMaps() {
  element("cards").classList.toggle("explained", wantsMaps());
  if (!wantsMaps()) return;
  askForMaps();
  if (!waitsForKey()) work();
}

function clear() {
  run?.abort();
  run = null;
  photos = [];
  queue = [];
  element("cards").replaceChildren();
  element("clear").hidden = true;
  say("");
  offerAgain();
  element("zone").focus();
}

function acceptKey() {
  element("key-form").hidden = true;
  element("key").value = element("key-problem").textContent = "";
}

function takeKey(event) {
  event.preventDefault();
  const key = element("key").value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) {
    element("key-problem").textContent = "A key has no spaces and only plain letters, digits and signs.";
    return;
  }
  setKey(key);
  work();
}

listen(element("zone"), element("files"), add);
element("key-form").addEventListener("submit", takeKey);
element("again").addEventListener("click", tryAgain);
element("clear").addEventListener("click", clear);
element("explain").addEventListener("change", toggleMaps);
work();
