import type { Batch, Frame, PublicationEncoder } from '../model/encoder.ts'
import type { Publication } from '../model/publication.ts'

/** Publications of a channel that have not left yet, and per encoder what was made of them. */
export interface Pending {
  /** The publication before these in the channel; undefined unless one is encoded against the other. */
  readonly before: Publication | undefined
  readonly publications: Publication[]
  /** Bytes of the payloads. */
  bytes: number
  readonly encoded: Map<PublicationEncoder, Encoded>
  /** Ids of subscribers that do not get all of it. */
  excluded: Set<string> | undefined
}

interface Encoded {
  /** Each publication in a frame of its own. undefined: it is not for those who have this encoder. */
  readonly frames: Array<Frame | undefined>
  /** By the index of a publication: one batch of it and of all that are pending after it. */
  batches: Batch[]
  /** The same, starting with a publication in full. */
  starts: Batch[]
}
