// What the pages share on which a model writes: fields called prompt, tau, temperature and seed, buttons called
// write, stop and dice, and calls(), the page's own, which shows how to ask for the same elsewhere.

const $ = (id) => document.getElementById(id);

// Seen, and told to who cannot see it.
function say(text) { $("said").textContent = text; $("state").textContent = text; }

// Sliders move on a scale of doublings, so that tau and temperature are each other's mirror.
const tau = () => Number((2 ** Number($("tau").value)).toPrecision(4));
function slide(from, to) {
  if (from) $(to).value = -Number($(from).value);
  $("tau-value").value = tau();
  $("temperature-value").value = Number((1 / tau()).toPrecision(4));
  for (const id of ["tau", "temperature"]) $(id).setAttribute("aria-valuetext", $(id + "-value").value);
  calls();
}

// One button goes, the other comes, and who had the focus of the one has that of the other.
function swap(from, to) {
  const focused = document.activeElement === $(from);
  $(to).disabled = false;
  if (focused) $(to).focus();
  $(from).disabled = true;
}

// A shell takes everything between single quotes but the quote itself.
const shell = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

// A text that can be copied, and the button that does it.
function toCopy(label, action, text) {
  const pre = document.createElement("pre"), button = document.createElement("button");
  pre.textContent = text;
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", label);
  button.type = "button";
  button.textContent = action;
  button.onclick = async () => {
    try { await navigator.clipboard.writeText(text); say("Copied."); }
    catch { getSelection().selectAllChildren(pre); say("Selected: copy it with Ctrl+C."); }
  };
  return [pre, button];
}

function listen() {
  $("dice").onclick = () => { $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0]; calls(); };
  $("prompt").onkeydown = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    $("form").requestSubmit();
  };
  $("tau").oninput = () => slide("tau", "temperature");
  $("temperature").oninput = () => slide("temperature", "tau");
  slide();
}
