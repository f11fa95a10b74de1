import { publishForClient } from '../../core/client-publish.ts'
import { subscribeClient, unsubscribeClient } from '../../core/client-subscribe.ts'
import { checkChannel } from '../../model/channel-rules.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import { encodePayload, isPosition } from '../../model/publication.ts'
import type { Payload, Position } from '../../model/publication.ts'
import type { CommandState } from './command-state.ts'
import type { Command, CommandName, PlainContext } from './context.ts'
import { jsonField } from './json-field.ts'

/**
 * Handles one command. `reply` writes the answer at once, with these JSON fields: whatever the handler writes next
 * follows it. The next message waits until the handler is done, or calls `next`.
 * @throws ReplyError, or any error of the app
 */
type Handler = (
  context: PlainContext, state: CommandState, command: Command, reply: (fields: string) => void, next: () => void
) => Promise<void>

/** The error for a message that is not what it should be. `problem`: what is wrong, for the client. */
export function badRequest (problem: string): ReplyError {
  return new ReplyError({ ...clientErrors.badRequest, message: `bad request: ${problem}` }, problem)
}

const subscribe: Handler = async (context, state, { target: channel, data, since }, reply) => {
  checkChannel(channel)
  if (since !== undefined && !isPosition(since)) throw badRequest('since must be a position, { offset, epoch }')
  const { connection } = state
  const request = {
    channel,
    since,
    rejectsUnrecovered: false,
    details: data === undefined ? {} : { data },
    byToken: undefined
  }
  await subscribeClient(context, state, request, ({ subscription, recovery, data, expiresAt }) => {
    if (recovery === undefined) throw new ReplyError(clientErrors.internal, 'publications arrived with a gap while the client subscribed')
    state.expireAt(subscription, expiresAt)
    const { recovered, missed, live, offset, epoch } = recovery
    reply(resultOf(
      epoch !== '' && positionFields({ offset, epoch }),
      since !== undefined && `"recovered":${recovered}`,
      data !== undefined && jsonField('data', data)
    ))
    for (const publication of [...missed, ...live]) connection.write(context.encoder.publication(channel, publication))
  })
}

const unsubscribe: Handler = async (context, state, { target: channel }, reply) => {
  await unsubscribeClient(context, state, channel)
  reply(resultOf())
}

const publish: Handler = async (context, { connection }, { target: channel, data }, reply, next) => {
  checkChannel(channel)
  if (data === undefined) throw badRequest('there is no data')
  const { offset, epoch } = await publishForClient(context, connection, channel, data, () => jsonOf(data), next)
  reply(resultOf(offset !== undefined && epoch !== undefined && positionFields({ offset, epoch })))
}

const method: Handler = async ({ methods }, { connection }, { target, data }, reply) => {
  const result = await methods.call(connection, target, data)
  reply(jsonField('result', encodePayload(result ?? null)))
}

export const handlers: { readonly [Name in CommandName]: Handler } = { subscribe, unsubscribe, publish, method }

/** A string from a client is JSON like any other value. */
function jsonOf (data: unknown): Payload {
  return { kind: 'json', payload: Buffer.from(JSON.stringify(data)) }
}

function positionFields ({ offset, epoch }: Position): string {
  return `"offset":${offset},"epoch":${JSON.stringify(epoch)}`
}

function resultOf (...fields: Array<string | false>): string {
  return `"result":{${fields.filter(field => field !== false).join()}}`
}
