// A photo or the camera's picture -> the classes of model.js, by ONNX Runtime Web on this device.
"use strict";

const { about, model } = window.CLASSIFIER;
const classes = JSON.parse(about.classes);
const least = Number(about.least || 0);
const threshold = about.threshold === undefined ? null : Number(about.threshold);
const [view, hint, answer, list, status, camera, file] =
  ["view", "hint", "answer", "classes", "status", "camera", "file"].map((id) => document.getElementById(id));
const canvas = document.createElement("canvas");
let session = null, busy = Promise.resolve(), stream = null;

function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}

async function load() {
  const { glue, wasm } = window.RUNTIME;
  ort.env.wasm.wasmBinary = bytes(wasm);
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([bytes(glue)], { type: "text/javascript" })) };
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
  session = await ort.InferenceSession.create(bytes(model), { executionProviders: ["wasm"] });
  window.CLASSIFIER = window.RUNTIME = null; // the session has its own
}

// The means of squares of `by` x `by` pixels, as predict reduces what is much larger than needed.
function reduced(data, width, height, by) {
  const w = Math.ceil(width / by), h = Math.ceil(height / by), rgb = new Uint8Array(3 * w * h);
  for (let y = 0; y < h; y++) {
    const bottom = Math.min((y + 1) * by, height);
    for (let x = 0; x < w; x++) {
      const right = Math.min((x + 1) * by, width), many = (right - x * by) * (bottom - y * by);
      let r = 0, g = 0, b = 0;
      for (let row = y * by; row < bottom; row++)
        for (let at = 4 * (row * width + x * by), end = 4 * (row * width + right); at < end; at += 4) {
          r += data[at]; g += data[at + 1]; b += data[at + 2];
        }
      const to = 3 * (y * w + x);
      rgb[to] = r / many + 0.5; rgb[to + 1] = g / many + 0.5; rgb[to + 2] = b / many + 0.5;
    }
  }
  return new ort.Tensor("uint8", rgb, [h, w, 3]);
}

function pixels(source, width, height) {
  [canvas.width, canvas.height] = [width, height];
  const paint = canvas.getContext("2d", { willReadFrequently: true });
  paint.fillStyle = "white"; // behind what is transparent
  paint.fillRect(0, 0, width, height);
  paint.drawImage(source, 0, 0);
  const { data } = paint.getImageData(0, 0, width, height);
  return reduced(data, width, height, least ? Math.max(Math.floor(Math.min(width, height) / least), 1) : 1);
}

async function classify(source, width, height) {
  const begin = performance.now();
  const found = await session.run({ photo: pixels(source, width, height) });
  const ms = performance.now() - begin, probabilities = found.probabilities.data;
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, 5);
  const none = threshold !== null && found.familiarity.data[0] < threshold;
  answer.textContent = none ? "none of these" : classes[order[0]];
  list.replaceChildren(...order.map((k) => {
    const item = document.createElement("li"), share = `${(100 * probabilities[k]).toFixed(1)} %`;
    item.innerHTML = "<span></span><span></span><i><b></b></i>";
    item.children[0].textContent = classes[k];
    item.children[1].textContent = share;
    item.querySelector("b").style.width = share.replace(" ", "");
    return item;
  }));
  status.textContent = `${none ? "Nearest classes are listed. " : ""}${ms.toFixed(0)} ms per photo`;
  status.dataset.answers = Number(status.dataset.answers || 0) + 1;
}

function next(work) { // one after another
  busy = busy.then(work).catch((error) => {
    show(hint); // what was shown before is not what the message is about
    answer.textContent = "";
    list.replaceChildren();
    status.textContent = error.message;
  });
  return busy;
}

function show(element) {
  for (const one of view.querySelectorAll("img")) URL.revokeObjectURL(one.src);
  view.replaceChildren(element);
}

function take(blob) {
  stop();
  return next(async () => {
    let photo;
    try {
      photo = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    } catch {
      throw new Error(`${blob.name || "This"} is not a photo that this browser reads; give a JPEG or PNG.`);
    }
    const image = new Image();
    image.alt = blob.name || "photo";
    image.src = URL.createObjectURL(blob);
    show(image);
    await classify(photo, photo.width, photo.height);
    photo.close();
  });
}

function stop() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  camera.textContent = "Use the camera";
}

async function start() {
  if (stream) { stop(); show(hint); return; }
  const wanted = navigator.mediaDevices && { video: { facingMode: "environment" } };
  if (!wanted) throw new Error("This browser hands no camera to this page; choose a photo.");
  try {
    stream = await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    throw new Error(`The camera cannot be used (${error.message}); choose a photo.`);
  }
  camera.textContent = "Stop the camera";
  const video = document.createElement("video"), mine = stream;
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
  show(video);
  await video.play();
  while (stream === mine) {
    if (video.videoWidth) await next(() => classify(video, video.videoWidth, video.videoHeight));
    await new Promise(requestAnimationFrame);
  }
}

next(load).then(() => {
  if (!session) return;
  status.textContent = `Ready; ${classes.length} classes.`;
  document.body.dataset.ready = "yes";
});
document.title = `${classes.slice(0, 3).join(", ")}${classes.length > 3 ? ", …" : ""}`;
document.getElementById("licence").textContent = about.licence;
file.addEventListener("change", () => {
  const [chosen] = file.files;
  file.value = ""; // so that the same photo may be chosen again
  if (chosen) take(chosen);
});
camera.addEventListener("click", () => start().catch((error) => { status.textContent = error.message; }));
addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files[0]));
addEventListener("dragover", (event) => { event.preventDefault(); view.classList.add("over"); });
addEventListener("dragleave", () => view.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  view.classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});
