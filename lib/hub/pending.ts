import { Batch } from '../model/batch.ts'
import type { Connection } from '../core/connection.ts'
import type { Frame, Protocol } from '../core/protocol.ts'
import type { Publication } from '../model/publication.ts'

/** What is published in a channel and has not left yet. */
export class Pending {
  readonly publications: Publication[] = []
  /** How many of them a connection has got already, because something else had to leave after them. */
  readonly given = new Map<Connection, number>()
  /** Bytes of their payloads. */
  bytes = 0
  /** Per protocol, by its index: each publication alone. */
  readonly #frames: Frame[][] = []
  /** Per protocol, by its index, and by the publication with which it begins: all there is now from there on. */
  #batches: Batch[][] = []

  push (publication: Publication): void {
    this.bytes += publication.payload.length
    if (this.#batches.length > 0) this.#batches = [] // they end before this one
    this.publications.push(publication)
  }

  /** This connection has all there are now, or gets them another way. */
  giveAll (connection: Connection): void {
    this.given.set(connection, this.publications.length)
  }

  /** The publications from the one with this index on, encoded and framed once for all connections that need just these. */
  batch (protocol: Protocol, channel: string, from: number): Batch {
    const batches = this.#batches[protocol.index] ??= []
    const batch = batches[from] ??= new Batch(protocol.join(this.#framesFrom(from, protocol, channel)))
    return batch
  }

  #framesFrom (from: number, protocol: Protocol, channel: string): readonly Frame[] {
    const frames = this.#frames[protocol.index] ??= []
    for (const publication of this.publications.slice(frames.length)) frames.push(protocol.publication(channel, publication))
    return frames.slice(from)
  }
}
