/** Reasons that are told apart. A server that words each refusal in its own way must not fill the memory. */
const MAX_REASONS = 32
const OTHERS = 'others'

/** How often each reason was given. */
export class Counts {
  readonly #counts = new Map<string, number>()
  total = 0

  add (reason: string): void {
    const key = this.#counts.has(reason) || this.#counts.size < MAX_REASONS ? reason : OTHERS
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    this.total++
  }

  /** The most frequent first. */
  toJSON (): Record<string, number> {
    return Object.fromEntries(Array.from(this.#counts).sort(([, a], [, b]) => b - a))
  }
}
