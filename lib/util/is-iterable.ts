/** True for what `for await` takes, but not for a string: that iterates over its characters, which nobody means. */
export function isIterable (value: unknown): value is AsyncIterable<unknown> | Iterable<unknown> {
  return typeof value === 'object' && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value)
}
