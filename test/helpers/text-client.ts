import type { StreamPart } from '../../index.ts'

/** Puts the texts of streams together as a page does, and writes down the parts. */
export class Texts {
  readonly parts: StreamPart[] = []
  readonly #texts = new Map<string, string>()
  readonly #ends = new Map<string, StreamPart['end']>()

  take (part: StreamPart): void {
    this.parts.push(part)
    const text = this.#texts.get(part.stream) ?? ''
    this.#texts.set(part.stream, text.slice(0, part.from) + part.text)
    this.#ends.set(part.stream, part.end)
  }

  text (stream: string): string { return this.#texts.get(stream) ?? '' }
  end (stream: string): StreamPart['end'] { return this.#ends.get(stream) }
}
