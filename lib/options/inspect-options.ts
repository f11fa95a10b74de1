import type { FastifyRequest } from 'fastify'
import { fields, fn } from './checks.ts'
import type { Check } from './checks.ts'
import { invalidOption } from './problems.ts'

type MaybePromise<T> = T | Promise<T>

/** Who may look at the page of `inspectPath`. */
export interface InspectOptions {
  /**
   * Returns the name of the person who looks, such as an e-mail address. It is called for every request of the page.
   * The name is in the log entry of everything that this person does there. If it throws, the request gets 401, or the
   * error's own 4xx `statusCode`, with the `headers` of such an error. Anything but a non-empty string is 403.
   */
  authorize: (request: FastifyRequest) => MaybePromise<string | undefined>
}

/** Checks the option `inspect`. */
export const inspect: Check<Readonly<InspectOptions> | undefined> = fields({ authorize: fn<InspectOptions['authorize']>() }, {}, {
  required: { authorize: 'a function' }, allowed: '{ authorize }'
})

/**
 * A page that publishes and disconnects is for nobody but those whom the app has named.
 * @throws FST_CRWS_INVALID_OPTION
 */
export function checkInspector (inspectPath: string | false, inspect: InspectOptions | undefined): void {
  if (inspectPath === false || inspect !== undefined) return
  throw invalidOption('inspect', 'nothing', '{ authorize }, which says who may look at the page of inspectPath')
}
