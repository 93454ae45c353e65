// How files come in: chosen, dropped anywhere on the page, or pasted. Each way ends in `take(files)`.

export function listen(zone, input, take) {
  zone.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files]);
    // So that choosing the same photo again is a change again.
    input.value = "";
  });

  // On the window: a photo dropped beside the zone would otherwise replace the page.
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.toggle("over", event.dataTransfer.types.includes("Files"));
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) zone.classList.remove("over");
  });
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(await droppedFiles(event.dataTransfer));
  });
  window.addEventListener("paste", (event) => take([...(event.clipboardData?.files ?? [])]));
}

async function droppedFiles(transfer) {
  // Entries must be taken before the first await: the list empties when the event is over.
  const files = [...transfer.files];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return files;
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    await new Promise((resolve) => {
      entry.file((file) => resolve(found.push(file)), resolve);
    });
    return;
  }
  const reader = entry.createReader();
  // A reader gives a folder in pieces, and an empty piece at its end.
  for (;;) {
    const entries = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (entries.length === 0) return;
    for (const inner of entries) await walk(inner, found);
  }
}
