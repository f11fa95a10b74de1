/** Steps of an axis from 0 that people can read: 1, 2, 2.5 or 5 times a power of ten, about `steps` of them. */
export function ticks (most: number, steps = 5): number[] {
  const rough = Math.max(most, Number.MIN_VALUE) / steps
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * [1, 2, 2.5, 5, 10].find(factor => factor * power >= rough)!
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step)
}

/** Maps 0 to `from` and `most` to `to`. */
export function scale (most: number, from: number, to: number): (value: number) => number {
  return value => Number((from + value / most * (to - from)).toFixed(1))
}

/** Places for labels that would like to be at `wanted`, in that order and at least `gap` apart, none below `most`. */
export function spread (wanted: readonly number[], gap: number, most: number): number[] {
  const order = wanted.map((at, i) => ({ at, i })).sort((a, b) => b.at - a.at)
  let limit = most
  const placed: number[] = []
  for (const { at, i } of order) {
    placed[i] = Math.min(at, limit)
    limit = placed[i] - gap
  }
  return placed
}
