import type { FastifyRequest } from 'fastify'
import { CrossSiteError, InspectForbiddenError } from '../../model/errors.ts'
import type { InspectOptions } from '../../options/inspect-options.ts'
import { sameHost } from '../admission.ts'
import type { HttpError } from '../answer.ts'
import { hasFailed, isDeliberate, refusalOf } from '../authentication.ts'

/** An answer with headers, such as `WWW-Authenticate`, which makes a browser ask for a password. */
export interface Refusal extends HttpError {
  headers?: Record<string, string>
}

/**
 * Asks the app who looks.
 * @param failed Takes an error of `authorize` that is no refusal.
 * @throws FST_CRWS_UNAUTHORIZED if `authorize` refuses, FST_CRWS_AUTHENTICATE_FAILED if it fails,
 * FST_CRWS_INSPECT_FORBIDDEN if it returns no name
 */
export async function whoLooks (
  authorize: InspectOptions['authorize'], request: FastifyRequest, failed: (error: unknown) => void
): Promise<string> {
  let who: unknown
  try {
    who = await authorize(request)
  } catch (error) {
    if (hasFailed(error)) failed(error)
    const refusal: Refusal = refusalOf(error)
    const { headers } = (error ?? {}) as Refusal
    throw headers !== undefined && isDeliberate(error) ? Object.assign(refusal, { headers }) : refusal
  }
  if (typeof who !== 'string' || who === '') throw new InspectForbiddenError()
  return who
}

/**
 * Refuses what a page of another site has made a browser send, with the cookies or the login of who looks at ours.
 *
 * Browsers say where a request comes from, in Sec-Fetch-Site or, where they send none, in Origin, and no script can
 * change either. A form can send no JSON, and a script of another origin has to ask for permission to do so, which
 * only an app with CORS gives; for such an app there is this check. A client that sends neither header is no browser,
 * and brings no login but its own.
 * @throws FST_CRWS_CROSS_SITE
 */
export function refuseCrossSite (request: FastifyRequest): void {
  const { 'sec-fetch-site': site, origin } = request.headers
  const own = site === undefined ? origin === undefined || sameHost(origin, request) : site === 'same-origin'
  if (!own) throw new CrossSiteError(origin ?? String(site))
}
