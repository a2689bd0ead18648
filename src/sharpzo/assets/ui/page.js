// The page of `sharpzo ui`: photos go in, a classifier comes out; all of it by the server on this machine.
"use strict";

const $ = (id) => document.getElementById(id);
const FEW = 12; // photos of a class, and findings of a kind, that are shown before a button shows all
const STAGES = { "cma-es": "evolution strategy", "sharp-cma": "sharpness-aware evolution strategy", "sparse-zo": "sparse zeroth-order steps",
  "gauss-newton": "Gauss-Newton steps" };
let base = "", can = {}, methods = {}, state = null, photos = null, runs = [], used = null, stream = null;
const all = new Set(); // classes, and kinds of findings, of which all is shown

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
const many = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
const path = (...parts) => base + parts.map((part) => "/" + encodeURIComponent(part)).join("");
const picture = (label, name, version) => `${path("photos", label, name)}?v=${version || 0}`;

async function ask(method, address, body) {
  let answer;
  try {
    answer = await fetch(address, { method, body });
  } catch {
    throw new Error("sharpzo does not answer; was it ended?");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error || `the server answered with ${answer.status}`);
  return found;
}
const post = (parts, document = {}) => ask("POST", path(...parts), JSON.stringify(document));

function trouble(sentence) {
  delete $("trouble").dataset.lost;
  $("trouble").textContent = sentence;
  $("trouble").hidden = !sentence;
}
const tried = (work) => (event) => {
  trouble("");
  return Promise.resolve(work(event)).catch((error) => trouble(sentence(error.message)));
};
const sentence = (text) => text && text[0].toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");

// New content of a box; the keyboard stays where it was, or near to it.
function fill(box, children) {
  const controls = () => [...box.querySelectorAll("button, input")], at = controls().indexOf(document.activeElement);
  box.replaceChildren(...children);
  const now = controls();
  if (at >= 0 && now.length) now[Math.min(at, now.length - 1)].focus();
}

// --- the workspace -------------------------------------------------------------------------------

async function open(workspace) {
  const token = location.hash.slice(1) || sessionStorage.getItem("token") || "";
  const found = await ask("POST", "open", JSON.stringify({ token, workspace }))
    .catch((error) => { if (workspace) return null; throw error; });
  if (!found) return open(null); // it is gone
  sessionStorage.setItem("token", found.token);
  sessionStorage.setItem("workspace", found.workspace);
  history.replaceState(null, "", "/"); // the token is in no history and on no screenshot
  [base, can, methods] = [`/w/${found.key}`, found.can, found.methods];
  $("own").replaceChildren(...found.folders.map((name) => el("button", { type: "button",
    onclick: tried(() => post(["fill"], { folder: name })) }, `Take the photos of ${name}`)));
  $("earlier").hidden = !found.earlier.length;
  $("earlier").replaceChildren("Earlier work: ", ...found.earlier.flatMap((one, k) => [k ? ", " : "",
    el("button", { className: "link", onclick: () => { sessionStorage.setItem("workspace", one.name); location.reload(); } },
      `${many(one.photos, "photo")} of ${one.classes} classes`)]), ".");
  $("methods").append(...Object.entries(methods).map(([name, why], k) => el("label", {},
    el("input", { type: "radio", name: "method", value: name, checked: k === 0 }), name, el("small", {}, why))));
  listen();
}

// A browser has six connections for all tabs of a page: those that are not looked at need none.
let events = null, lost = null;
function listen() {
  if (events) events.close();
  clearTimeout(lost);
  events = document.hidden ? null : new EventSource(path("events"));
  if (!events) return;
  events.onmessage = (event) => {
    clearTimeout(lost);
    if ($("trouble").dataset.lost) trouble("");
    show(JSON.parse(event.data));
  };
  events.onerror = () => {
    clearTimeout(lost);
    lost = setTimeout(() => {
      trouble("sharpzo does not answer. Was it ended? Start it again, and open the address that it prints.");
      $("trouble").dataset.lost = "yes";
    }, 2000);
  };
}

async function show(now) {
  const before = state;
  state = now;
  const ended = before && before.work && before.work.running && !(now.work && now.work.running);
  const changed = !before || before.version !== now.version || before.checked !== now.checked;
  showWork();
  if (changed) await listPhotos();
  if (!before || changed || ended) await listRuns();
  if (ended && before.work.kind === "tune" && !now.work.error && !now.work.stopped)
    $(runs.length > 1 ? "h-compare" : "h-result").scrollIntoView();
  if (JSON.stringify(before && before.files) !== JSON.stringify(now.files)) showExports();
  if (changed || ended) lookLater();
}

let looking = null, looked = null;
function lookLater() { // once nothing has changed for a moment
  clearTimeout(looking);
  looking = setTimeout(() => {
    if (state.checked || state.missing || uploads.left || (state.work && state.work.running)) return;
    if (looked !== state.version) post(["check"]).catch(() => {}); // once: what failed would fail again
    looked = state.version;
  }, 600);
}

// --- photos --------------------------------------------------------------------------------------

const uploads = { left: 0, done: 0, queue: [], refused: [] };

// What was found in the photos before stays until they have been looked at again, as far as they are there.
let kept = null;
function stillThere(found) {
  if (!found || state.missing) return null;
  const there = ([label, name]) => (photos.classes[label] || []).some((one) => one[0] === name);
  const findings = found.findings.map((one) => ({ ...one, photos: one.photos.filter(there) }))
    .filter((one) => one.kind === "class" || one.photos.length > (one.kind === "copy" ? 1 : 0));
  return { ...found, findings };
}

async function listPhotos() {
  photos = await ask("GET", path("photos"));
  kept = photos.found = photos.found || stillThere(kept);
  const marked = new Map();
  for (const one of photos.found ? photos.found.findings : [])
    if (one.kind !== "small") for (const [label, name] of one.photos) {
      const key = `${label}/${name}`;
      marked.set(key, `${marked.get(key) || ""} ${one.sentence}`);
    }
  fill($("classes"), Object.entries(photos.classes).map(([label, held]) => card(label, held, marked)));
  showFindings();
}

function card(label, held, marked) {
  const first = [...held].sort((a, b) => marked.has(`${label}/${b[0]}`) - marked.has(`${label}/${a[0]}`));
  const shown = all.has(label) ? first : first.slice(0, FEW);
  const input = el("input", { type: "file", className: "file", multiple: true, accept: "image/*", id: `add ${label}`, "aria-label": `Add photos to ${label}`,
    onchange: () => { upload([...input.files].map((file) => [label, file])); input.value = ""; } });
  const box = el("div", { className: "class" },
    el("h3", {}, label, " ", el("small", {}, many(held.length, "photo"))),
    el("div", { className: "photos" }, ...shown.map(([name, version]) =>
      thumbnail(label, name, version, marked.get(`${label}/${name}`)))),
    el("div", { className: "row" }, input, el("label", { className: "button", htmlFor: input.id }, "Add"),
      held.length > FEW && !all.has(label)
        ? el("button", { type: "button", onclick: () => { all.add(label); listPhotos(); } }, `All ${held.length}`) : null,
      el("button", { type: "button", onclick: tried(() => removeClass(label, held.length)), "aria-label": `Remove the class ${label}` }, "Remove")));
  droppable(box, (found) => upload(found.map(([, file]) => [label, file])));
  return box;
}

function thumbnail(label, name, version, why) {
  return el("div", { className: why ? "photo marked" : "photo", title: why ? `${name}:${why}` : name },
    el("img", { src: picture(label, name, version), alt: `${label}, ${name}`, loading: "lazy" }),
    el("button", { type: "button", "aria-label": `Remove ${name} of ${label}`, onclick: tried(() => ask("DELETE", path("photos", label, name))) }, "×"));
}

function removeClass(label, held) {
  if (held > 4 && !confirm(`Remove the class ${label} and its ${held} photos?`)) return null;
  return ask("DELETE", path("classes", label));
}

async function upload(pairs) {
  if (!uploads.left) Object.assign(uploads, { done: 0, refused: [] });
  uploads.queue.push(...pairs);
  uploads.left += pairs.length;
  showUploads();
  await Promise.all([1, 2, 3].map(async () => {
    while (uploads.queue.length) {
      const [label, file] = uploads.queue.shift();
      await ask("PUT", path("photos", label, file.name), file)
        .then(() => { uploads.done++; }, (error) => uploads.refused.push(sentence(error.message)));
      uploads.left--;
      showUploads();
    }
  }));
  if (!uploads.left) lookLater();
}

function showUploads() {
  const total = uploads.left + uploads.done + uploads.refused.length;
  $("uploading").textContent = uploads.left ? `Adding photos: ${total - uploads.left} of ${total}` : "";
  const shown = uploads.refused.slice(0, 5).map((one) => el("li", {}, one));
  const rest = uploads.refused.length - shown.length;
  $("refused").replaceChildren(...shown, ...(rest > 0 ? [el("li", {}, `${rest} more were refused.`)] : []));
}

// Files of folders, as pairs of the folder's name and the file; hidden files and other kinds are passed over.
const PHOTO = /\.(jpe?g|jpe|jfif|png|webp|bmp|gif|tiff?|avif|hei[cf]|hif)$/i;
async function walk(entry, label, found) {
  if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail));
    if (PHOTO.test(file.name) && !file.name.startsWith(".")) found.push([label, file]);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!part.length) return;
    for (const inner of part) await walk(inner, entry.name, found);
  }
}

function droppable(target, take) {
  target.addEventListener("dragover", (event) => { event.preventDefault(); event.stopPropagation(); target.classList.add("over"); });
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", tried(async (event) => {
    event.preventDefault();
    event.stopPropagation();
    target.classList.remove("over");
    const found = [], items = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
    const files = [...event.dataTransfer.files].map((file) => ["", file]);
    for (const entry of items) if (entry) await walk(entry, "", found);
    take(found.length ? found : files);
  }));
}

function addFolders(pairs) {
  const named = pairs.filter(([label]) => label);
  if (named.length < pairs.length)
    trouble("Photos need a class: name one, and drop them on it; or drop the folder that they are in.");
  if (named.length) upload(named);
}

// --- what to look at -----------------------------------------------------------------------------

const KINDS = { unreadable: "Files that cannot be read", label: "Labels that may be wrong: each looks more like another class",
  copy: "Copies", small: "Small photos", class: "Classes" };
function showFindings() {
  const found = photos.found ? photos.found.findings : [];
  fill($("findings"), Object.entries(KINDS).flatMap(([kind, title]) => {
    const list = found.filter((one) => one.kind === kind);
    if (!list.length) return [];
    const shown = all.has(kind) ? list : list.slice(0, FEW);
    return [el("h3", {}, title), ...(kind === "label" || kind === "unreadable"
      ? [el("div", { className: "photos" }, ...shown.map((one) => figure(...one.photos[0], one.sentence)))]
      : shown.map((one) => el("div", {}, el("p", {}, sentence(one.sentence)), kind === "small" ? null
        : el("div", { className: "photos" }, ...one.photos.slice(0, FEW).map(([label, name]) => figure(label, name, "")))))),
      shown.length < list.length ? el("button", { type: "button",
        onclick: () => { all.add(kind); showFindings(); } }, `Show all ${list.length}`) : ""];
  }));
  showLooked();
}

const figure = (label, name, why) => el("figure", {}, thumbnail(label, name), el("figcaption", {}, el("b", {}, label), why && el("br"), why));

function showLooked() {
  const found = photos && photos.found, work = state.work || {};
  let said = state.missing ? "Wrong labels, copies and files that cannot be read will be listed here." : "";
  if (work.running && work.stage === "looking at the photos") said = `Looking at the photos: ${work.done} of ${work.total}`;
  else if (work.kind === "check" && work.error) said = sentence(work.error);
  else if (found) {
    said = found.recognised === null ? "" : `Left out one by one, ${percent(found.recognised)} of the photos are recognised. `;
    said += found.findings.length ? "" : "Nothing to mend was found.";
  }
  $("looked").textContent = said;
}

// --- tuning --------------------------------------------------------------------------------------

function showWork() {
  const work = state.work, running = work && work.running, tuning = running && work.kind === "tune";
  $("tune").disabled = Boolean(state.missing) || tuning;
  $("missing").textContent = tuning ? "" : state.missing;
  $("stop").hidden = !tuning;
  $("stop").disabled = running && work.stopping;
  $("stop").textContent = running && work.stopping ? "Stopping…" : "Stop";
  $("progress").hidden = !tuning;
  if (tuning) {
    if (work.total) [$("bar").max, $("bar").value] = [work.total, work.done];
    else $("bar").removeAttribute("value");
    const parts = [sentence(STAGES[work.stage] || work.stage || "starting").slice(0, -1)];
    if (work.total) parts.push(`${work.done.toLocaleString("en")} of ${work.total.toLocaleString("en")}${work.loss === undefined ? "" : " forwards"}`);
    if (typeof work.loss === "number") parts.push(`loss ${work.loss.toFixed(3)}`);
    if (typeof work.validation === "number") parts.push(`validation ${percent(work.validation)}`);
    $("stage").textContent = `${parts.join(", ")}; ${clock(work.seconds)}`;
    draw(work.curve);
  }
  const doing = (...kinds) => running && kinds.includes(work.kind);
  const failed = (...kinds) => work && !running && kinds.includes(work.kind) ? sentence(work.error) : "";
  $("ended").textContent = failed("tune");
  $("unwritten").textContent = failed("export", "report");
  $("writing").textContent = doing("export", "report")
    ? `${work.kind === "report" ? "Writing the report" : "Writing, and comparing with the run's own answers"}: ${clock(work.seconds)}` : "";
  if (doing("photos")) $("uploading").textContent = `Copying photos: ${work.done || 0}`;
  else if (!uploads.left) $("uploading").textContent = failed("photos");
  if (photos) showLooked();
}

async function tune(method) {
  await post(["tune"], { method });
  $("h-tune").scrollIntoView();
}

function draw(curve) {
  for (const id of ["curve", "legend"]) $(id).toggleAttribute("hidden", !curve || curve.length < 2);
  if (!curve || curve.length < 2) return;
  const last = curve[curve.length - 1][0] || 1, losses = curve.map((one) => one[1]).filter((one) => one !== null);
  const low = Math.min(...losses), high = Math.max(...losses, low + 1e-9);
  const lines = { loss: (one) => one[1] === null ? null : (one[1] - low) / (high - low), validation: (one) => one[2] };
  $("curve").replaceChildren(...Object.entries(lines).map(([name, of]) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("class", name);
    line.setAttribute("points", curve.filter((one) => typeof of(one) === "number")
      .map((one) => `${(600 * one[0] / last).toFixed(1)},${(84 - 78 * of(one)).toFixed(1)}`).join(" "));
    return line;
  }));
}

// --- runs ----------------------------------------------------------------------------------------

async function listRuns() {
  const before = runs.filter((run) => run.finished).length;
  runs = await ask("GET", path("runs"));
  const finished = runs.filter((run) => run.finished);
  if (finished.length > before || !finished.some((run) => run.run === used)) used = finished.length ? finished[finished.length - 1].run : null;
  $("compare").hidden = !runs.length;
  for (const id of ["result", "take"]) $(id).hidden = !finished.length;
  $("runs").replaceChildren(...runs.map(row));
  const there = new Set(runs.filter((run) => !run.finished || run.same_photos).map((run) => run.method));
  $("others").replaceChildren(...Object.keys(methods).filter((name) => !there.has(name)).map((name) =>
    el("button", { type: "button", onclick: tried(() => tune(name)) }, `Fit ${name} to the same photos`)));
  showResult();
  showExports();
}

function row(run) {
  if (!run.finished) return el("tr", {}, el("td", {}, ""), el("td", {}, run.method),
    el("td", { colSpan: 3 }, "stopped ", el("button", { type: "button", onclick: tried(() => post(["tune"], { run: run.run })) }, "Go on")));
  const use = el("input", { type: "radio", name: "run", checked: run.run === used, "aria-label": `Use run ${run.run}, ${run.method}`,
    onchange: () => { used = run.run; showResult(); showExports(); } });
  const share = run.of ? `${run.right} of ${run.of} (${percent(run.right / run.of)})` : "none were set aside";
  return el("tr", {}, el("td", {}, use), el("td", {}, run.method, run.same_photos ? null : el("small", { className: "quiet" }, " other photos")),
    el("td", {}, share), el("td", {}, run.seconds.toFixed(1)), el("td", {}, run.forwards.toLocaleString("en")));
}

function showResult() {
  const run = runs.find((one) => one.run === used);
  if (!run) return;
  const said = [];
  if (run.of) said.push(`Of ${many(run.of, "photo")} that were set aside, ${run.right} are recognised: `, el("b", {}, percent(run.right / run.of)), ".");
  else if (run.left_out) said.push("Left out one by one, ", el("b", {}, percent(run.left_out)), " of the photos are recognised.");
  else said.push("There are too few photos to say how well it does. Try it.");
  $("said").replaceChildren(...said);
  const more = [];
  if (run.of) more.push("The settings were chosen on these photos, so expect a little less on new ones.");
  if (run.of && run.untuned !== null) more.push(`The model without your photos has ${percent(run.untuned)}.`);
  if (run.more) more.push(`Twice as many photos per class would bring about ${(100 * run.more.gain).toFixed(1)} points; the classes that need them most: ${run.more.classes.join(", ")}.`);
  if (run.none) more.push(`A photo that fits no class is answered by “none of these”, and so are about ${percent(run.none.lost)} of the others.`);
  $("more").textContent = [...more, ...run.warnings.map(sentence)].join(" ");
  $("mistakes").replaceChildren(...(run.mistakes.length ? [el("h3", {}, "Its mistakes"), el("div", { className: "mistakes" },
    ...run.mistakes.map((one) => el("figure", {}, el("div", { className: "photo" }, el("img", { src: picture(one.class, one.name), alt: "", loading: "lazy" })),
      el("figcaption", {}, el("b", {}, one.class), `, it says ${one.said} (${percent(one.probability)})`))))] : []));
}

function showExports() {
  if (used === null) return;
  const busy = state.work && state.work.running, files = new Set(state.files);
  const save = (href, text) => el("a", { className: "button", href, download: "" }, text);
  const made = (kind, file, text, why) => el("li", {}, el("div", { className: "row" },
    files.has(file) ? save(path("files", file), `Save ${text}`) : el("button", { type: "button", disabled: Boolean(busy),
      onclick: tried(() => post(["runs", used, "export"], { kind })) }, `Make ${text}`)), el("small", { className: "quiet" }, why));
  const report = `${used}-report.html`;
  $("exports").replaceChildren(
    el("li", {}, el("div", { className: "row" }, save(path("runs", used, "run.zip"), "Save the run")),
      el("small", { className: "quiet" }, "A few kilobytes; unpacked, it is what sharpzo predict, evaluate and add take.")),
    made("onnx", `run-${used}-onnx.zip`, "an ONNX file", "Image tower and classes in one file of 90 MB, with a script that needs no sharpzo."),
    can.web ? made("web", `run-${used}-page.zip`, "a web page", "A folder that a browser opens, offline, with the camera; 80 MB.")
      : el("li", { className: "quiet" }, "A web page that works offline: sharpzo export RUN site --format web --runtime download"),
    can.report ? el("li", {}, el("div", { className: "row" }, files.has(report)
      ? el("a", { className: "button", href: path("runs", used, "report"), target: "_blank", rel: "noopener" }, "Open the report")
      : el("button", { type: "button", disabled: Boolean(busy), onclick: tried(() => post(["runs", used, "export"], { kind: "report" })) }, "Make the report")),
    el("small", { className: "quiet" }, "Which classes are mixed up, how sure it is, and what it cost, on one page.")) : "");
}

// --- trying it -----------------------------------------------------------------------------------

async function classify(blob) {
  const found = await ask("POST", path("runs", used, "answer"), blob);
  $("answer").textContent = found.none ? "none of these" : found.label;
  $("probabilities").replaceChildren(...found.top.map((one) => {
    const bar = el("b");
    bar.style.width = `${100 * one.probability}%`;
    return el("li", {}, el("span", {}, one.label), el("span", {}, `${(100 * one.probability).toFixed(1)} %`), el("i", {}, bar));
  }));
  $("took").className = "quiet";
  $("took").textContent = `${found.none ? "The nearest classes are listed. " : ""}${found.ms} ms`;
  $("took").dataset.answers = Number($("took").dataset.answers || 0) + 1;
}

function view(element) {
  for (const one of $("view").querySelectorAll("img")) URL.revokeObjectURL(one.src);
  $("view").replaceChildren(element);
}

async function tryPhoto(blob) {
  stopCamera();
  $("answer").textContent = "…";
  $("probabilities").replaceChildren();
  const image = el("img", { alt: blob.name || "photo", src: URL.createObjectURL(blob) });
  image.addEventListener("error", () => view($("hint") || el("p", { id: "hint" }, blob.name)));
  view(image);
  await classify(blob).catch((error) => {
    $("answer").textContent = "";
    $("took").className = "error";
    $("took").textContent = sentence(error.message);
  });
}

function stopCamera() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  $("camera").textContent = "Use the camera";
}

async function useCamera() {
  if (stream) return stopCamera();
  if (!navigator.mediaDevices) throw new Error("this browser hands no camera to this page; choose a photo");
  stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } })
    .catch((error) => { throw new Error(`the camera cannot be used (${error.message}); choose a photo`); });
  const mine = stream, video = el("video", { srcObject: mine, muted: true, playsInline: true }), canvas = el("canvas");
  $("camera").textContent = "Stop the camera";
  view(video);
  await video.play();
  try {
    while (stream === mine) {
      const by = Math.min(640 / Math.max(video.videoWidth, video.videoHeight), 1);
      [canvas.width, canvas.height] = [by * video.videoWidth, by * video.videoHeight];
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      await classify(await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92)));
      await new Promise(requestAnimationFrame);
    }
  } finally {
    stopCamera();
  }
}

// --- what is pressed -----------------------------------------------------------------------------

$("demo").addEventListener("click", tried(() => post(["fill"])));
$("tune").addEventListener("click", tried(() => tune(document.querySelector("input[name=method]:checked").value)));
$("stop").addEventListener("click", tried(() => post(["stop"])));
$("camera").addEventListener("click", tried(useCamera));
$("new").addEventListener("submit", tried(async (event) => {
  event.preventDefault();
  await post(["classes"], { name: $("name").value });
  $("name").value = "";
}));
$("folders").addEventListener("change", () => {
  addFolders([...$("folders").files].filter((file) => PHOTO.test(file.name))
    .map((file) => [file.webkitRelativePath.split("/").at(-2) || "", file]));
  $("folders").value = "";
});
$("photo").addEventListener("change", () => {
  const [chosen] = $("photo").files;
  $("photo").value = ""; // so that the same photo may be chosen again
  if (chosen) tryPhoto(chosen);
});
droppable($("drop"), addFolders);
droppable($("view"), (found) => found.length && tryPhoto(found[0][1]));
addEventListener("paste", (event) => used !== null && event.clipboardData.files.length && tryPhoto(event.clipboardData.files[0]));
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
document.addEventListener("visibilitychange", () => base && listen());
addEventListener("pagehide", () => base && navigator.sendBeacon(path("leave")));
addEventListener("pageshow", (event) => event.persisted && location.reload());
open(sessionStorage.getItem("workspace")).catch((error) => trouble(sentence(error.message)));
