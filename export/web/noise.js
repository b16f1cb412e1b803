// contract/noise.py in JavaScript: Philox-4x64 by (seed, stream, position), in halves of 32 bits.

const TWO_32 = 2 ** 32;
const MULTIPLIERS = [[0xd2e7470e, 0xe14c6c93], [0xca5a8263, 0x95121157]]; // high, low
const WEYL = [[0x9e3779b9, 0x7f4a7c15], [0xbb67ae85, 0x84caa73b]];

// The upper 32 bits of a product of two words: 48 bits at a time are exact in a float64.
const highOf = (a, b) => Math.floor(((a >>> 16) * b + Math.floor((a & 0xffff) * b / 65536)) / 65536);

// A product of 64 by 64 bits into four words, from the highest to the lowest; without an array for each it is fast.
const product = new Uint32Array(4);
function multiply([aHigh, aLow], bHigh, bLow) {
  const second = highOf(aLow, bLow) + (Math.imul(aLow, bHigh) >>> 0) + (Math.imul(aHigh, bLow) >>> 0);
  const third = highOf(aLow, bHigh) + highOf(aHigh, bLow) + (Math.imul(aHigh, bHigh) >>> 0) + Math.floor(second / TWO_32);
  product[0] = highOf(aHigh, bHigh) + Math.floor(third / TWO_32);
  product[1] = third;
  product[2] = second;
  product[3] = Math.imul(aLow, bLow);
}

// One block: eight words, those of a 64-bit number from the lower half up.
function philox(keys, counter, words, at) {
  let c0 = Math.floor(counter / TWO_32), c1 = counter >>> 0, c2 = 0, c3 = 0, c4 = 0, c5 = 0, c6 = 0, c7 = 0; // high, low, high, low ...
  for (let round = 0; round < keys.length; round += 4) {
    multiply(MULTIPLIERS[0], c0, c1);
    const a0 = product[0], a1 = product[1], a2 = product[2], a3 = product[3];
    multiply(MULTIPLIERS[1], c4, c5);
    c0 = (product[0] ^ c2 ^ keys[round]) >>> 0;
    c1 = (product[1] ^ c3 ^ keys[round + 1]) >>> 0;
    c4 = (a0 ^ c6 ^ keys[round + 2]) >>> 0;
    c5 = (a1 ^ c7 ^ keys[round + 3]) >>> 0;
    c2 = product[2];
    c3 = product[3];
    c6 = a2;
    c7 = a3;
  }
  words[at] = c1; words[at + 1] = c0; words[at + 2] = c3; words[at + 3] = c2;
  words[at + 4] = c5; words[at + 5] = c4; words[at + 6] = c7; words[at + 7] = c6;
}

// The noise of one text. The seed and the stream are BigInts, taken modulo 2**64; the position is below 2**53 / vocab.
function noiseOf(seed, stream, vocab) {
  const halves = (value) => [Number(BigInt.asUintN(64, value) >> 32n), Number(BigInt.asUintN(32, value))];
  const keys = new Uint32Array(40); // of the ten rounds, each two of 64 bits
  keys.set([...halves(seed), ...halves(stream)]);
  for (let at = 4; at < keys.length; at += 2) {
    const [high, low] = WEYL[at / 2 % 2], sum = keys[at - 3] + low;
    keys[at] = keys[at - 4] + high + Math.floor(sum / TWO_32);
    keys[at + 1] = sum;
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
