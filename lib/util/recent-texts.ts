/** Milliseconds for which a text is remembered, and how many are at most. */
const REMEMBERED = 60_000
const MAX_TEXTS = 100

/** Tells texts that are new from those that were there within the last minute. Once it is full, none is new. */
export class RecentTexts {
  /** Unix time in ms when each text was last new, the oldest first, and how often it came again since. */
  readonly #known = new Map<string, { newAt: number, repeated: number }>()

  /** True once a minute for each text. */
  isNew (text: string, now: number): boolean {
    return this.take(text, now) !== undefined
  }

  /** The same, with a count: a new text returns how often it came again after it was last new; any other undefined. */
  take (text: string, now: number): number | undefined {
    const known = this.#known.get(text)
    if (known !== undefined && now - known.newAt < REMEMBERED) {
      known.repeated++
      return undefined
    }
    if (known === undefined && !this.#hasRoom(now)) return undefined
    this.#known.delete(text)
    this.#known.set(text, { newAt: now, repeated: 0 })
    return known?.repeated ?? 0
  }

  /** Forgets only when it must: what is forgotten loses its count. */
  #hasRoom (now: number): boolean {
    for (const [text, { newAt }] of this.#known) {
      if (this.#known.size < MAX_TEXTS || now - newAt < REMEMBERED) break
      this.#known.delete(text)
    }
    return this.#known.size < MAX_TEXTS
  }
}
