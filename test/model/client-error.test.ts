import t from 'tap'
import { ClientError, refusalFor, replyFor } from '../../lib/model/client-error.ts'
import { clientErrors, ReplyError } from '../../lib/model/error-replies.ts'
import { UnrecoverablePositionError } from '../../lib/model/errors.ts'

t.test('an error that means a reply has a text for the client, and one for the log', async (t) => {
  const gone = new UnrecoverablePositionError('room:1')
  for (const [error, reply, detail] of [
    [new ReplyError(clientErrors.permissionDenied, 'the rules say no'), clientErrors.permissionDenied, 'the rules say no'],
    [new ReplyError(clientErrors.badRequest), clientErrors.badRequest, 'bad request'],
    [new ClientError(403, 'the room is full'), { code: 403, message: 'the room is full' }, 'the room is full'],
    [new ClientError(403, ''), { code: 403, message: 'error' }, 'error'],
    [gone, clientErrors.unrecoverablePosition, gone.message]
  ] as const) {
    t.strictSame(replyFor(error), reply, detail)
    t.equal(refusalFor(error)?.detail, detail)
  }
})

t.test('any other error is no reply, whatever was thrown', async (t) => {
  for (const thrown of [new Error('a bug'), 'text', null, undefined, { code: 7 }]) {
    t.equal(replyFor(thrown), undefined)
    t.equal(refusalFor(thrown), undefined)
  }
})
