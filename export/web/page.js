// The page itself: loads what lies beside it, and writes in slices, so that it can be read and stopped meanwhile.

const FILES = ["RUNTIME", "MODEL"]; // names with what they hold in them: no cache mixes two exports
const SLICE = 20; // milliseconds
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

let model = null, writing = null;

// What is wrong, and what to do, as one sentence for people.
class Problem extends Error {}

// What lies beside the page comes as scripts: a browser fetches nothing else for a page of a folder (file://).
const script = (name, source = name) => new Promise((done, failed) => {
  const element = document.createElement("script");
  element.src = source;
  element.onload = done;
  element.onerror = () => failed(new Problem(`${name} is not beside this page, or cannot be read: put the whole folder in one place, or export it again with p2 export --web.`));
  document.head.append(element);
});
async function held(name, key) {
  await script(name);
  try {
    // gzip has a checksum: what comes out is what went in.
    const unpack = async (text) => {
      const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
      return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
    };
    const found = {};
    for (const [part, text] of Object.entries(window[key])) found[part] = await unpack(text);
    delete window[key];
    return found;
  } catch { throw new Problem(`${name} is damaged: export the folder again with p2 export --web.`); }
}
async function load() {
  if (!window.WebAssembly || !WebAssembly.validate(Uint8Array.from(SIMD)) || !window.DecompressionStream)
    throw new Problem("This browser has no WebAssembly with SIMD, which the model needs: take Chrome or Edge 91, Firefox 113, Safari 16.4, or a later one.");
  const found = await held(FILES[1], "p2Model"), runtime = await held(FILES[0], "p2Runtime");
  const url = (code) => URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  await script(FILES[0], url(runtime.ort));
  ort.env.wasm.numThreads = 1; // more need headers that no folder and few servers send
  ort.env.wasm.wasmBinary = runtime.wasm;
  ort.env.wasm.wasmPaths = { mjs: url(runtime.loader) };
  await open(found);
}
async function open({ card, step }) {
  try {
    const session = await ort.InferenceSession.create(step, { executionProviders: ["wasm"] });
    model = { ...JSON.parse(new TextDecoder().decode(card)), session };
  } catch (error) { throw new Problem(`ONNX Runtime cannot run the model in this browser: ${error.message}`); }
  model.characters = [...model.vocabulary];
  model.numbers = new Map(model.characters.map((character, token) => [character, token]));
  $("name").textContent = document.title = model.name;
  $("about").textContent = `${model.cell} ${model.layers} × ${model.hidden}, ${model.characters.length} characters, ${model.precision}. It writes in this browser: nothing is sent anywhere.`;
}

function encode(text) {
  return [...text].map((character, position) => {
    const token = model.numbers.get(character);
    if (token === undefined) {
      const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      throw new Problem(`The model does not know the character '${character}' (U+${code}) at position ${position}; its vocabulary has ${model.characters.length} characters.`);
    }
    return token;
  });
}
// A reader: feeds a token, gives the logits, float32 [vocab].
function reader() {
  let state = {};
  for (const name of model.states) state[name + "_in"] = new ort.Tensor("float32", new Float32Array(model.hidden), [1, model.hidden]);
  return async (token) => {
    const found = await model.session.run({ token: new ort.Tensor("int64", BigInt64Array.of(BigInt(token)), [1]), ...state });
    for (const name of model.states) state[name + "_in"] = found[name + "_out"];
    const logits = found.logits.data;
    if (!logits.every(Number.isFinite)) throw new Problem("The model computed NaN or an infinity: this is no text any more.");
    return logits;
  };
}
// Lets the page show and hear what has come: a timer would wait longer, the more often it is set.
const breath = () => new Promise((done) => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => { channel.port1.close(); done(); };
  channel.port2.postMessage(null);
});
async function* pieces(asked, signal) {
  const tokens = encode(asked.prompt), next = reader(), noise = noiseOf(asked.seed, 0n, model.characters.length);
  let token = tokens.pop(), piece = "", until = performance.now() + SLICE;
  const due = () => performance.now() >= until;
  async function* rest() {
    yield piece;
    piece = "";
    await breath();
    until = performance.now() + SLICE;
  }
  for (const known of tokens) {
    await next(known);
    if (due()) yield* rest();
    if (signal.aborted) return;
  }
  for (let position = 0; position < asked.length && !signal.aborted; position++) {
    token = token === undefined ? noise.first() : choose(await next(token), asked.sampling.greedy ? [] : noise.gumbel(position), asked.sampling);
    piece += model.characters[token];
    if (due()) yield* rest();
  }
  yield piece;
}

function calls() {
  if (!model) return;
  const words = ["p2 generate --engine", shell(model.file)];
  if ($("prompt").value) words.push("--prompt=" + shell($("prompt").value));
  words.push(`--seed=${$("seed").value} --length=${$("length").value}`, $("greedy").checked ? "--greedy" : `--tau=${tau()}`);
  for (const [name, off] of [["top-k", 0], ["top-p", 1], ["min-p", 0]]) if (Number($(name).value) !== off) words.push(`--${name}=${$(name).value}`);
  $("calls").replaceChildren(...toCopy("The command that writes this text", "Copy the command", words.join(" ")));
}
function asked() {
  const number = (name) => Number($(name).value);
  try {
    return { prompt: $("prompt").value, length: number("length"), seed: BigInt($("seed").value),
      sampling: samplingOf($("greedy").checked ? Infinity : tau(), number("top-k"), number("top-p"), number("min-p")) };
  } catch (error) { throw new Problem(error.message); }
}
// An error is said once, to eyes and ears alike.
function fail(error) {
  if (!(error instanceof Problem)) console.error(error);
  $("problem").textContent = error instanceof Problem ? error.message : `The page failed: ${error.message}`;
  $("problem").hidden = false;
  $("problem").scrollIntoView({ block: "nearest" });
  say("");
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  if (writing || !model) return;
  writing = new AbortController();
  $("problem").hidden = true;
  swap("write", "stop");
  say("Writing.");
  const text = document.createTextNode(""), box = $("written").firstElementChild;
  $("text").replaceChildren(text);
  $("given").textContent = $("prompt").value;
  $("speed").textContent = "";
  $("written").hidden = false;
  $("written").scrollIntoView({ block: "nearest" }); // which is below the fields on a phone
  let count = 0;
  try {
    const started = performance.now();
    for await (const piece of pieces(asked(), writing.signal)) {
      const follow = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
      text.appendData(piece);
      if (follow) box.scrollTop = box.scrollHeight;
      count += [...piece].length;
      const rate = count / (performance.now() - started) * 1000;
      $("speed").textContent = `${count.toLocaleString("en")} characters, ${Math.round(rate).toLocaleString("en")} a second`;
    }
    say(writing.signal.aborted ? "Stopped." : "Done.");
  } catch (error) {
    $("written").hidden = !count;
    fail(error);
  }
  swap("stop", "write");
  writing = null;
};
// A field that is out of its range can be seen: the browser points at it.
$("form").addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), true);
$("stop").onclick = () => writing && writing.abort();
for (const id of ["prompt", "length", "seed", "top-k", "top-p", "min-p", "greedy"]) $(id).oninput = calls;
listen();
$("write").disabled = true;
say("Loading the model.");
load().then(() => { $("write").disabled = false; say("Ready."); calls(); }, fail);
