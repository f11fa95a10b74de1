import type { ClientSubscribes } from '../../core/client-subscribe.ts'
import type { Methods } from '../../core/methods.ts'
import type { Publisher } from '../../core/publisher.ts'
import type { Encoder } from '../../model/encoder.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'

/** The parts of this instance that the commands of plain clients act on. One object serves all connections. */
export interface PlainContext extends ClientSubscribes {
  readonly options: ResolvedOptions
  readonly methods: Methods
  readonly publisher: Publisher
  /** Writes publications. */
  readonly encoder: Encoder
}

/** What a plain client asks for. */
export interface Command {
  /** Of the answer; undefined: the client gets no answer but an error. */
  readonly id: string | number | undefined
  readonly name: CommandName
  /** The channel, or the method. */
  readonly target: string
  readonly data: unknown
  readonly since: unknown
}

/** If a message has several of these fields, the first one in this order counts. */
export const commandNames = ['subscribe', 'unsubscribe', 'publish', 'method'] as const
export type CommandName = typeof commandNames[number]
