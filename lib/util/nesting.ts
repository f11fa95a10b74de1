/**
 * True if the value has more than this many levels: `[1]` and `{}` have one, a string has none. Follows what no
 * function that calls itself could, and circles.
 */
export function isDeeperThan (levels: number, value: unknown): boolean {
  const seen = new Set<object>()
  let level = objectsOf([value])
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > levels) return true
    level = objectsOf(level.flatMap(one => Object.values(one)))
  }
  return false

  function objectsOf (values: unknown[]): object[] {
    const objects = values.filter((one): one is object => typeof one === 'object' && one !== null && !ArrayBuffer.isView(one) && !seen.has(one))
    for (const one of objects) seen.add(one)
    return objects
  }
}
