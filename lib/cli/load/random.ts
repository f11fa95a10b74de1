const STEP = 0x6D2B79F5

/** Random numbers from 0 up to, but without, 1, the same ones for the same seed (the generator mulberry32). */
export function randomFrom (seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + STEP) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
