import { inspect } from 'node:util'
import { checkFields } from '../../model/arguments.ts'
import { checkChannel } from '../../model/channel-rules.ts'
import { InvalidArgumentError } from '../../model/errors.ts'

/** Longest text of a filter. */
const MAX_TEXT = 255

/** In which order connections are listed. */
const CONNECTION_ORDERS = ['newest', 'oldest', 'buffered', 'received', 'sent'] as const
/** In which order channels are listed. */
const CHANNEL_ORDERS = ['clients', 'name'] as const
const PROTOCOLS = ['plain', 'json', 'protobuf'] as const
const SHOWN = ['connections', 'channels', 'channel'] as const

/** What a page shows now. Instances send no more than this. Texts match anywhere, in capitals or not. */
export interface View {
  readonly show: typeof SHOWN[number]
  /** With `show: 'channel'`: its name. */
  readonly name?: string
  readonly user?: string
  readonly client?: string
  readonly channel?: string
  readonly protocol?: typeof PROTOCOLS[number]
  readonly instance?: string
  readonly order?: typeof CONNECTION_ORDERS[number] | typeof CHANNEL_ORDERS[number]
}

/**
 * Checks what a page, or another instance, wants to see.
 * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_INVALID_CHANNEL
 */
export function checkView (value: unknown): View {
  checkFields('view', value as object, ['show', 'name', 'user', 'client', 'channel', 'protocol', 'instance', 'order'])
  const view = value as View
  oneOf('show', view.show, SHOWN)
  if (view.protocol !== undefined) oneOf('protocol', view.protocol, PROTOCOLS)
  if (view.order !== undefined) oneOf('order', view.order, view.show === 'channels' ? CHANNEL_ORDERS : CONNECTION_ORDERS)
  if (view.show === 'channel') checkChannel(view.name!)
  for (const field of ['user', 'client', 'channel', 'instance'] as const) {
    const text: unknown = view[field]
    if (text === undefined || (typeof text === 'string' && text.length <= MAX_TEXT)) continue
    throw new InvalidArgumentError(`${field} of the view`, inspect(text), `a string of at most ${MAX_TEXT} characters`)
  }
  return view
}

function oneOf (what: string, value: unknown, allowed: readonly string[]): void {
  if (allowed.includes(value as string)) return
  throw new InvalidArgumentError(`${what} of the view`, inspect(value), allowed.join(', '))
}
