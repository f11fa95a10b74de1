/** The largest whole number from 1 to `most` that fits, found by halves: those that fit are below those that do not. */
export function largest (most: number, fits: (count: number) => boolean): number {
  if (fits(most)) return most
  let low = 1
  let high = most
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle
  }
  return low
}
