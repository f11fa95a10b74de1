import { Batch } from './batch.ts'
import type { Connection } from './connection.ts'
import type { Protocol } from './protocol.ts'
import type { Publication } from './publication.ts'

interface Piece {
  readonly protocol: Protocol
  readonly from: number
  readonly batch: Batch
}

/** What is published in a channel and has not left yet. */
export class Pending {
  readonly publications: Publication[] = []
  /** How many of them a connection has got already, because something else had to leave after them. */
  readonly given = new Map<Connection, number>()
  /** Bytes of their payloads. */
  bytes = 0
  /** Of what there is now. */
  #pieces: Piece[] = []

  /** How many there are now. */
  push (publication: Publication): number {
    this.bytes += publication.payload.length
    if (this.#pieces.length > 0) this.#pieces = [] // they end before this one
    return this.publications.push(publication)
  }

  /** The publications from the one with this index on, encoded and framed once for all connections that need just these. */
  batch (protocol: Protocol, channel: string, from: number): Batch {
    for (const piece of this.#pieces) {
      if (piece.protocol === protocol && piece.from === from) return piece.batch
    }
    const batch = new Batch(protocol.publications(channel, from === 0 ? this.publications : this.publications.slice(from)))
    this.#pieces.push({ protocol, from, batch })
    return batch
  }
}
