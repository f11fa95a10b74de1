import type { Answer } from './answer.ts'
import type { Context } from './context.ts'
import { clientErrors, ReplyError } from './errors.ts'
import { replyPublication } from './replies.ts'
import { positionOf, subscribedChannel } from './requests.ts'
import type { RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'

/** Publications in one reply, as many as Centrifugo sends by default. */
const MAX_PUBLICATIONS = 300

/** Handles `history`. Without a limit it returns the position alone, with a negative one all publications there are. */
export async function history (context: Context, session: SdkSession, request: RequestOf<'history'>): Promise<Answer> {
  const channel = await subscribedChannel(context, session, request, 'history')
  const { limit = 0, reverse = false } = request
  const since = request.since && positionOf(request.since)
  if (reverse && since?.offset === 0) throw new ReplyError(clientErrors.badRequest)
  const atMost = limit < 0 ? MAX_PUBLICATIONS : Math.min(limit, MAX_PUBLICATIONS)
  const { publications, offset, epoch } = await context.publisher.read(channel, { limit: atMost, since, reverse })
  return { result: { publications: publications.map(replyPublication), epoch, offset } }
}
