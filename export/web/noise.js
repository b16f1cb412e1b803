// contract/noise.py in JavaScript: Philox-4x64 by (seed, stream, position), in halves of 32 bits.

const TWO_32 = 2 ** 32;
const MULTIPLIERS = [[0xd2e7470e, 0xe14c6c93], [0xca5a8263, 0x95121157]]; // high, low
const WEYL = [[0x9e3779b9, 0x7f4a7c15], [0xbb67ae85, 0x84caa73b]];

// The upper 32 bits of a product of two words: 48 bits at a time are exact in a float64.
function highOf(a, b) {
  const low = (a & 0xffff) * b;
  return Math.floor(((a >>> 16) * b + Math.floor(low / 65536)) / 65536);
}

// A product of 64 by 64 bits: from the highest word to the lowest.
function multiply([aHigh, aLow], bHigh, bLow) {
  const second = highOf(aLow, bLow) + (Math.imul(aLow, bHigh) >>> 0) + (Math.imul(aHigh, bLow) >>> 0);
  const third = highOf(aLow, bHigh) + highOf(aHigh, bLow) + (Math.imul(aHigh, bHigh) >>> 0) + Math.floor(second / TWO_32);
  const fourth = highOf(aHigh, bHigh) + Math.floor(third / TWO_32);
  return [fourth >>> 0, third >>> 0, second >>> 0, Math.imul(aLow, bLow) >>> 0];
}

// One block: eight words, those of a 64-bit number from the lower half up.
function philox(keys, counter, words, at) {
  let [c0High, c0Low] = [Math.floor(counter / TWO_32), counter >>> 0];
  let c1High = 0, c1Low = 0, c2High = 0, c2Low = 0, c3High = 0, c3Low = 0;
  for (const [k0High, k0Low, k1High, k1Low] of keys) {
    const [aTop, aHigh, aMiddle, aLow] = multiply(MULTIPLIERS[0], c0High, c0Low);
    const [bTop, bHigh, bMiddle, bLow] = multiply(MULTIPLIERS[1], c2High, c2Low);
    [c0High, c0Low] = [(bTop ^ c1High ^ k0High) >>> 0, (bHigh ^ c1Low ^ k0Low) >>> 0];
    [c2High, c2Low] = [(aTop ^ c3High ^ k1High) >>> 0, (aHigh ^ c3Low ^ k1Low) >>> 0];
    [c1High, c1Low, c3High, c3Low] = [bMiddle, bLow, aMiddle, aLow];
  }
  words.set([c0Low, c0High, c1Low, c1High, c2Low, c2High, c3Low, c3High], at);
}

// The noise of one text. The seed and the stream are BigInts, taken modulo 2**64; the position is below 2**53 / vocab.
function noiseOf(seed, stream, vocab) {
  const halves = (value) => [Number(BigInt.asUintN(64, value) >> 32n), Number(BigInt.asUintN(32, value))];
  const keys = [[...halves(seed), ...halves(stream)]];
  while (keys.length < 10) {
    const [a, b, c, d] = keys.at(-1), [w, v] = WEYL, low = [b + w[1], d + v[1]];
    keys.push([(a + w[0] + Math.floor(low[0] / TWO_32)) >>> 0, low[0] >>> 0, (c + v[0] + Math.floor(low[1] / TWO_32)) >>> 0, low[1] >>> 0]);
  }
  const blocks = Math.ceil(vocab / 8), all = new Uint32Array(8 * blocks), numbers = new Float32Array(vocab);
  function words(position) {
    // numpy's generator counts up before its first block.
    for (let block = 0; block < blocks; block++) philox(keys, position * blocks + block + 1, all, 8 * block);
    return all.subarray(0, vocab);
  }
  return {
    words,
    // float32 [vocab], overwritten by the next call; computed in float64 as everywhere.
    gumbel(position) {
      const found = words(position);
      for (let v = 0; v < vocab; v++) numbers[v] = -Math.log(-Math.log((found[v] + 0.5) * 2 ** -32));
      return numbers;
    },
    // A text without a prompt spends position 0 on its first character.
    first: () => words(0).reduce((best, word, v, found) => (word > found[best] ? v : best), 0),
  };
}
