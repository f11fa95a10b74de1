import type { Answer } from './answer.ts'
import type { Context } from './context.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import { dataOf, payloadOf } from './payloads.ts'
import type { RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'

/** Handles `rpc`: the app's `onRpc` answers. */
export async function rpc ({ options }: Context, { connection }: SdkSession, request: RequestOf<'rpc'>): Promise<Answer> {
  const { onRpc } = options
  if (onRpc === undefined) throw new ReplyError(clientErrors.notAvailable)
  const data = payloadOf(await onRpc(connection, request.method ?? '', dataOf(request.data)))
  return { result: data === undefined ? {} : { data } }
}

/** Handles `send`: a message for the app's `onMessage`. It has no id and no reply [Command-Reply]. */
export async function send ({ options }: Context, { connection }: SdkSession, request: RequestOf<'send'>): Promise<undefined> {
  const { onMessage } = options
  if (onMessage === undefined) throw new DisconnectError('unsupported')
  await onMessage(connection, dataOf(request.data))
}
