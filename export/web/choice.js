// contract/sampling.py in JavaScript: float32 wherever numpy has it.

const { fround } = Math;

// The settings of a choice; tau is Infinity where it is greedy. Throws an Error that says which is out of its range.
function samplingOf(tau, topK, topP, minP) {
  if (!(topP > 0 && topP <= 1)) throw new Error(`top-p must be above 0 and at most 1 (off), not ${topP}.`);
  if (!(minP >= 0 && minP < 1)) throw new Error(`min-p must be at least 0 (off) and below 1, not ${minP}.`);
  if (!(Number.isInteger(topK) && topK >= 0)) throw new Error(`top-k must be 0 (off) or a positive whole number, not ${topK}.`);
  const temperature = 1 / tau, greedy = temperature === 0;
  return { greedy, temperature: fround(temperature), tau: greedy ? 1 : fround(1 / temperature), topK, topP: fround(topP), minP: fround(minP),
    filters: !greedy && (topK > 0 || topP < 1 || minP > 0) };
}

// The smallest logit that survives the filters.
function threshold(logits, sampling) {
  const { tau, topK, topP, minP } = sampling;
  const ordered = logits.slice().sort().reverse().subarray(0, topK || logits.length);
  const weights = ordered.map((logit) => Math.exp(fround(fround(logit - ordered[0]) * tau)));
  const total = weights.reduce((sum, weight) => fround(sum + weight), 0);
  let lowest = ordered[0], before = 0;
  for (let at = 0; at < ordered.length; at++) {
    if ((topP < 1 && before >= topP) || weights[at] < minP) break;
    lowest = ordered[at];
    before = fround(before + fround(weights[at] / total));
  }
  return lowest;
}

// The chosen token: float32 logits [vocab] and noise [vocab] that nothing has scaled yet.
function choose(logits, noise, sampling) {
  const least = sampling.filters ? threshold(logits, sampling) : -Infinity;
  let best = 0, highest = -Infinity;
  for (let v = 0; v < logits.length; v++) {
    const now = sampling.greedy ? logits[v] : fround(logits[v] + fround(noise[v] * sampling.temperature));
    if (logits[v] >= least && now > highest) [best, highest] = [v, now];
  }
  return best;
}
