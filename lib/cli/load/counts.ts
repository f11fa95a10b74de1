/** Reasons that are told apart. A server that words each refusal in its own way must not fill the memory. */
const MAX_REASONS = 32
const OTHERS = 'others'
/** Characters of a reason. */
const MAX_LENGTH = 120

/** How often each reason was given. */
export class Counts {
  readonly #counts = new Map<string, number>()

  /** Counts a reason, which a server may have worded. */
  add (reason: string): void {
    const words = printable(reason)
    const key = this.#counts.has(words) || this.#counts.size < MAX_REASONS ? words : OTHERS
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
  }

  /** The most frequent first. */
  toJSON (): Record<string, number> {
    return Object.fromEntries(Array.from(this.#counts).sort(([, a], [, b]) => b - a))
  }
}

/** One short line: a server must neither fill the report nor give orders to the terminal that shows it. */
function printable (text: string): string {
  const short = text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH - 1)}…` : text
  return short.replace(/[\s\p{C}]+/gu, ' ').trim()
}
