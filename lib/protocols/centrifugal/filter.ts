import type { Frame, PublicationEncoder } from '../../model/encoder.ts'
import type { Publication } from '../../model/publication.ts'
import type { TagsFilter } from '../../model/tags-filter.ts'
import { Variants } from './variants.ts'

/** An encoder whose publications are for everybody. */
export interface WholeEncoder extends PublicationEncoder {
  publication (channel: string, publication: Publication): Frame
  join (frames: readonly Frame[]): readonly Frame[]
}

/** Several frames, and what they are joined to. */
interface Joined { readonly parts: readonly Frame[], readonly frames: readonly Frame[] }

/** Encodes publications of one channel, each once for all filters that it matches. */
class SharedFrames {
  readonly base: WholeEncoder
  readonly #frames = new WeakMap<Publication, Frame>()
  /** By the first part: what was joined last. Most filters that match something match the same. */
  readonly #joined = new WeakMap<Frame, Joined>()

  constructor (base: WholeEncoder) {
    this.base = base
  }

  frame (channel: string, publication: Publication): Frame {
    let frame = this.#frames.get(publication)
    if (frame === undefined) this.#frames.set(publication, frame = this.base.publication(channel, publication))
    return frame
  }

  join (parts: readonly Frame[]): readonly Frame[] {
    const [first] = parts
    let joined = first && this.#joined.get(first)
    if (joined?.parts.length !== parts.length || joined.parts.some((part, i) => part !== parts[i])) {
      joined = { parts, frames: this.base.join(parts) }
      if (first !== undefined) this.#joined.set(first, joined)
    }
    return joined.frames
  }
}

/** For the subscriptions of a channel that have the same tags filter: what does not match it is not for them. */
class FilteredEncoder implements PublicationEncoder {
  readonly filter: TagsFilter
  readonly #shared: SharedFrames

  constructor (filter: TagsFilter, shared: SharedFrames) {
    this.filter = filter
    this.#shared = shared
  }

  publication (channel: string, publication: Publication): Frame | undefined {
    return this.filter.matches(publication) ? this.#shared.frame(channel, publication) : undefined
  }

  join (frames: readonly Frame[]): readonly Frame[] {
    return this.#shared.join(frames)
  }

  event (channel: string, event: Publication): Frame | undefined {
    return this.#shared.base.event(channel, event)
  }
}

interface Filtered {
  /** By channel. */
  readonly shared: Variants<SharedFrames>
  /** By channel and filter. */
  readonly encoders: Variants<FilteredEncoder>
}

const filteredOf = new WeakMap<WholeEncoder, Filtered>()

/** Returns the encoder of all subscriptions of the channel that have `base` as their encoder, and an equal filter. */
export function filteredEncoder (base: WholeEncoder, channel: string, filter: TagsFilter): FilteredEncoder {
  let filtered = filteredOf.get(base)
  if (filtered === undefined) filteredOf.set(base, filtered = { shared: new Variants(), encoders: new Variants() })
  const { shared, encoders } = filtered
  return encoders.get(JSON.stringify([channel, filter.id]), () => {
    return new FilteredEncoder(filter, shared.get(channel, () => new SharedFrames(base)))
  })
}
