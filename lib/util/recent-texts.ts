/** Milliseconds for which a text is remembered, and how many are at most. */
const REMEMBERED = 60_000
const MAX_TEXTS = 100

/** Tells texts that are new from those that were there within the last minute. Once it is full, none is new. */
export class RecentTexts {
  /** When each text came, the oldest first. */
  readonly #cameAt = new Map<string, number>()

  /** True once a minute for each text. */
  isNew (text: string, now: number): boolean {
    for (const [known, cameAt] of this.#cameAt) {
      if (now - cameAt < REMEMBERED) break
      this.#cameAt.delete(known)
    }
    if (this.#cameAt.has(text) || this.#cameAt.size >= MAX_TEXTS) return false
    this.#cameAt.set(text, now)
    return true
  }
}
