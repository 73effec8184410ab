// The page: a picture, a clip or the camera; a gallery of styles on it; controls; the result.
import { Camera } from "/camera.js";

const $ = (id) => document.getElementById(id);
const PREVIEW = 960; // long side in pixels of what is shown while settings change
const state = { token: "", kind: "", file: null, small: null, size: [0, 0], style: "", styles: [], clip: null, job: "", camera: null };
let galleryRun = new AbortController(), renderRun = new AbortController(), timer = 0;

// Requests

export const token = () => state.token;

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401) $("token-form").hidden = false;
  let text = `${answer.status} ${answer.statusText}`;
  try { text = (await answer.json()).detail || text; } catch { /* not a problem document */ }
  throw new Error(text);
}

async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    rest += value;
    const parts = rest.split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

function jpeg(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
}

function show(image, url) {
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.src = url;
}

function showStatus(text) { $("status").textContent = text; }

function fail(error) {
  if (error.name === "AbortError") return;
  $("error").textContent = error.message;
  $("error").hidden = false;
  showStatus("");
}

function guarded(work) {
  return async (...given) => {
    $("error").hidden = true;
    try { await work(...given); } catch (error) { fail(error); }
  };
}

// Settings

function styleSettings() {
  const second = $("second").value, share = Number($("share").value);
  const style = second ? [`${state.style}=${(1 - share).toFixed(2)}`, `${second}=${share.toFixed(2)}`] : [state.style];
  return {
    style, strength: Number($("strength").value), strokes: Number($("strokes").value),
    stroke_size: Number($("stroke_size").value), preserve_color: $("preserve_color").checked,
  };
}

function query(extra = {}) {
  const values = new URLSearchParams();
  const chosen = styleSettings();
  chosen.style.forEach((each) => values.append("style", each));
  for (const name of ["strength", "strokes", "stroke_size"]) if (chosen[name] !== 1) values.set(name, chosen[name]);
  if (chosen.preserve_color) values.set("preserve_color", "true");
  for (const [name, value] of Object.entries(extra)) [value].flat().forEach((each) => values.append(name, each));
  return values;
}

function command() {
  const nameOf = (id) => { const found = state.styles.find((each) => each.id === id); return found && !found.shipped ? `${found.name}.jpg` : id; };
  const chosen = styleSettings(), name = state.file?.name || "picture.jpg";
  const word = state.kind === "clip" ? "video" : state.kind === "camera" ? "live" : "image";
  const parts = ["mst", word, word === "live" ? "camera window" : quoted(name)];
  chosen.style.forEach((each) => { const [id, weight] = each.split("="); parts.push("--style", quoted(nameOf(id) + (weight ? `=${weight}` : ""))); });
  if (chosen.strength !== 1) parts.push("--strength", chosen.strength);
  if (word !== "live" && chosen.strokes !== 1) parts.push("--strokes", chosen.strokes);
  if (word !== "live" && chosen.stroke_size !== 1) parts.push("--stroke-size", chosen.stroke_size);
  if (chosen.preserve_color) parts.push("--preserve-color");
  if (word === "video") {
    if ($("clip-size").value) parts.push("--size", $("clip-size").value);
    if ($("deflicker").checked) parts.push("--deflicker");
  }
  $("command").textContent = parts.join(" ");
}

const quoted = (text) => (/^[\w.=/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function changed() {
  for (const range of document.querySelectorAll(".slider input[type=range]")) {
    if (range.id !== "compare") range.parentElement.querySelector("output").textContent = range.value;
  }
  $("share-row").hidden = !$("second").value;
  command();
  if (state.kind === "camera") return state.camera?.change(styleSettings());
  clearTimeout(timer);
  timer = setTimeout(guarded(renderPreview), 200);
}

// Pictures

async function reduced(blob, longest) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const size = [bitmap.width, bitmap.height];
  bitmap.close();
  return { size, blob: await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.93)) };
}

async function begin(kind, file, picture, text) {
  stopCamera();
  Object.assign(state, { kind, file, job: "" });
  $("chosen").textContent = text;
  $("work").hidden = false;
  $("picture-actions").hidden = kind !== "picture";
  $("clip-actions").hidden = kind !== "clip";
  $("live-actions").hidden = $("live-facts").hidden = $("live").hidden = kind !== "camera";
  $("after").hidden = $("before").hidden = $("compare-row").hidden = $("line").hidden = kind === "camera";
  $("job").hidden = true;
  $("still-list").replaceChildren();
  if (!picture) return;
  try {
    const { size, blob } = await reduced(picture, PREVIEW);
    Object.assign(state, { small: blob, size });
  } catch { // a kind that the browser cannot show; the service may
    Object.assign(state, { small: picture, size: [0, 0] });
  }
  show($("before"), URL.createObjectURL(state.small));
  show($("after"), URL.createObjectURL(state.small));
  await Promise.all([renderPreview(), renderGallery(state.small)]);
}

async function renderPreview() {
  if (!state.small || state.kind === "camera") return;
  renderRun.abort();
  renderRun = new AbortController();
  $("stage").classList.add("busy");
  const started = performance.now();
  const shown = state.size[0] ? {} : { size: "540" };
  const answer = await ask(`/v1/images?${query(shown)}`, {
    method: "POST", body: state.small, signal: renderRun.signal,
    headers: { "Content-Type": state.small.type || "application/octet-stream", Accept: "image/jpeg" },
  });
  show($("after"), URL.createObjectURL(await answer.blob()));
  $("stage").classList.remove("busy");
  document.body.dataset.rendered = String(Number(document.body.dataset.rendered || 0) + 1);
  showStatus(`Stylized in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

async function renderGallery(picture) {
  galleryRun.abort();
  galleryRun = new AbortController();
  for (const tile of $("gallery").children) delete tile.dataset.own;
  const answer = await ask(`/v1/sheets?size=240`, {
    method: "POST", body: picture, signal: galleryRun.signal,
    headers: { "Content-Type": picture.type || "application/octet-stream", Accept: "application/x-ndjson" },
  });
  for await (const { style, image, error } of lines(answer)) {
    if (error) throw new Error(error);
    const tile = $("gallery").querySelector(`[data-style="${style}"] img`);
    if (tile) { show(tile, jpeg(image)); tile.parentElement.dataset.own = "true"; }
  }
}

async function openFile(file) {
  if (!file) return;
  if (file.type.startsWith("video/") || /\.(mkv|ts|mov|avi|m4v)$/i.test(file.name)) return openClip(file);
  await begin("picture", file, file, file.name);
}

async function fullSize() {
  const button = $("full");
  button.disabled = true;
  showStatus("Stylizing in full size ...");
  try {
    const answer = await ask(`/v1/images?${query()}`, {
      method: "POST", body: state.file,
      headers: { "Content-Type": state.file.type || "application/octet-stream", Accept: "image/png" },
    });
    save(await answer.blob(), `${stem()}-${state.style}.png`);
    showStatus("Done");
  } finally { button.disabled = false; }
}

const stem = () => (state.file?.name || "picture").replace(/\.[^.]*$/, "");

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Styles

function tileOf({ id, name }) {
  const tile = document.createElement("button");
  tile.type = "button";
  tile.className = "tile";
  tile.dataset.style = id;
  tile.setAttribute("role", "radio");
  const image = document.createElement("img");
  image.alt = "";
  image.src = "/icon.svg";
  const label = document.createElement("span");
  label.textContent = name;
  tile.append(image, label);
  tile.addEventListener("click", () => { choose(id); changed(); });
  return tile;
}

function choose(id) {
  state.style = id;
  for (const tile of $("gallery").children) {
    const mine = tile.dataset.style === id;
    tile.setAttribute("aria-checked", mine);
    tile.tabIndex = mine ? 0 : -1;
  }
}

function listStyles() {
  $("gallery").replaceChildren(...state.styles.map(tileOf));
  const second = $("second").value;
  $("second").replaceChildren($("second").firstElementChild, ...state.styles.map(({ id, name }) => new Option(name, id)));
  $("second").value = second;
  choose(state.styles.some(({ id }) => id === state.style) ? state.style : state.styles[0]?.id || "");
}

async function loadStyles() {
  const found = await (await ask("/v1/styles")).json();
  state.styles = found.styles;
  $("machine").textContent = `Model ${found.model}, on ${found.device === "cuda" ? "the graphics card" : "the processor"}`;
  document.querySelectorAll(".strokes").forEach((row) => { row.hidden = !found.strokes; });
  listStyles();
}

async function addPainting(file) {
  if (!file) return;
  showStatus("Reading the style ...");
  let body = file;
  try { body = (await reduced(file, 1600)).blob; } catch { /* the service may know it */ }
  const name = file.name.replace(/\.[^.]*$/, "").slice(0, 60);
  const made = await (await ask(`/v1/styles?${new URLSearchParams({ name })}`, {
    method: "POST", body, headers: { "Content-Type": body.type || "application/octet-stream" },
  })).json();
  if (!state.styles.some(({ id }) => id === made.id)) {
    state.styles.push({ ...made, shipped: false });
    const tile = tileOf(made);
    show(tile.firstElementChild, URL.createObjectURL(body));
    $("gallery").append(tile);
    $("second").append(new Option(made.name, made.id));
  }
  choose(made.id);
  changed();
  showStatus(`Style ${made.name} added`);
}

function arrows(event) {
  const tiles = [...$("gallery").children], at = tiles.indexOf(document.activeElement);
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || at < 0) return;
  event.preventDefault();
  const next = tiles[(at + step + tiles.length) % tiles.length];
  next.focus();
  next.click();
}

// Clips

async function openClip(file) {
  showStatus("Uploading the clip ...");
  const found = await (await ask("/v1/clips", {
    method: "POST", body: file, headers: { "Content-Type": file.type || "application/octet-stream" },
  })).json();
  const frame = await (await ask(`/v1/clips/${found.id}/frame`)).blob();
  state.clip = found;
  const sides = [180, 240, 360, 540, 720, 1080].filter((side) => side < Math.min(found.width, found.height));
  $("clip-size").replaceChildren(new Option(`${found.width}x${found.height}`, ""), ...sides.map((side) => new Option(`short side ${side}`, side)));
  await begin("clip", file, frame, `${file.name}: ${found.width}x${found.height}, ${found.seconds.toFixed(1)} s, ${found.frames} frames`);
}

const clipQuery = (extra) => query({ ...($("clip-size").value ? { size: $("clip-size").value } : {}), ...($("deflicker").checked ? { deflicker: "true" } : {}), ...extra });

async function showStills() {
  const time = $("times").value.split(/[,;\s]+/).filter(Boolean);
  showStatus("Stylizing the stills ...");
  const answer = await ask(`/v1/clips/${state.clip.id}/previews?${clipQuery({ time })}`, { method: "POST" });
  $("still-list").replaceChildren();
  for await (const still of lines(answer)) {
    const figure = document.createElement("figure"), image = document.createElement("img"), caption = document.createElement("figcaption");
    image.src = jpeg(still.image);
    image.alt = caption.textContent = `at ${still.time} s`;
    figure.append(image, caption);
    $("still-list").append(figure);
  }
  showStatus("Stills as the video will show them");
}

async function renderClip() {
  const job = await (await ask(`/v1/videos?${clipQuery({ clip: state.clip.id })}`, { method: "POST" })).json();
  state.job = job.id;
  $("job").hidden = false;
  $("download").hidden = true;
  $("cancel").hidden = false;
  while (state.job === job.id) { // with a token, EventSource could not send it
    const found = await (await ask(`/v1/jobs/${job.id}`)).json();
    if (state.job !== job.id) return;
    $("progress").value = found.progress;
    const left = found.seconds_left === null ? "" : `, ${clock(found.seconds_left)} left`;
    $("job-text").textContent = found.state === "running" ? `${found.frames_done} of ${found.frames} frames${left}` : found.state;
    if (found.state === "done") { $("download").hidden = false; $("cancel").hidden = true; return showStatus("The video is ready"); }
    if (found.error) throw new Error(found.error);
    await new Promise((done) => setTimeout(done, 700));
  }
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, "0")}`;

async function cancelJob() {
  const id = state.job;
  state.job = "";
  await ask(`/v1/jobs/${id}`, { method: "DELETE" });
  $("job").hidden = true;
  showStatus("Canceled");
}

async function downloadVideo() {
  const answer = await ask(`/v1/jobs/${state.job}/result`);
  save(await answer.blob(), `${stem()}-${state.style}.mp4`);
}

// Camera

async function startCamera() {
  stopCamera();
  showStatus("Waiting for the camera ...");
  const camera = new Camera($("live"), (facts) => { $("live-facts").textContent = facts; }, fail, state.token);
  const picture = await camera.open();
  await begin("camera", null, null, "Camera");
  state.camera = camera;
  camera.start(styleSettings());
  command();
  showStatus("");
  await renderGallery(picture);
}

function stopCamera() {
  state.camera?.close();
  state.camera = null;
}

// Start

for (const id of ["strength", "strokes", "stroke_size", "share", "second", "preserve_color"]) $(id).addEventListener("input", changed);
for (const id of ["clip-size", "deflicker"]) $(id).addEventListener("input", command);
$("compare").addEventListener("input", () => {
  $("stage").style.setProperty("--cut", `${$("compare").value}%`);
  $("compare").setAttribute("aria-valuetext", `${$("compare").value} percent as it was`);
});
$("gallery").addEventListener("keydown", arrows);
$("file").addEventListener("change", guarded(async () => { await openFile($("file").files[0]); }));
$("painting").addEventListener("change", guarded(async () => { await addPainting($("painting").files[0]); }));
$("example").addEventListener("click", guarded(async () => {
  const blob = await (await ask("/example.jpg")).blob();
  await openFile(new File([blob], "example.jpg", { type: "image/jpeg" }));
}));
$("camera").addEventListener("click", guarded(startCamera));
$("stop").addEventListener("click", () => { stopCamera(); showStatus("The camera is off"); });
$("snapshot").addEventListener("click", () => $("live").toBlob((blob) => save(blob, `snapshot-${state.style}.png`), "image/png"));
$("full").addEventListener("click", guarded(fullSize));
$("stills").addEventListener("click", guarded(showStills));
$("render").addEventListener("click", guarded(renderClip));
$("cancel").addEventListener("click", guarded(cancelJob));
$("download").addEventListener("click", guarded(downloadVideo));
$("copy").addEventListener("click", guarded(async () => { await navigator.clipboard.writeText($("command").textContent); showStatus("Copied"); }));
$("token-form").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  $("token-form").hidden = true;
  await loadStyles();
}));
for (const kind of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, guarded(async (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") await openFile(event.dataTransfer.files[0]);
  }));
}
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  state.token = given; // in memory only
  history.replaceState(null, "", location.pathname);
}
guarded(loadStyles)();
