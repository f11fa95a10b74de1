import { get } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'

/** ms that the metadata server may take; it answers within a few. */
const TIMEOUT = 800
const TRIES = 3
/** Where the server may not run yet, all questions together take as long as this many waits. */
const PATIENT_WAITS = 10
/** Codes of errors after which nobody will ever answer: the server's name is not known here. */
const NOWHERE = new Set(['ENOTFOUND'])

/** By URL; what was answered once is asked no more, nor what nobody answered who was asked patiently. */
const answers = new Map<string, Promise<string | undefined>>()

/**
 * What Google's metadata server says at this path. undefined if it does not know, or if nobody answers in time. Never
 * rejects. `patience`: ms between two questions where the server may not run yet; 0: it runs, or it is not there. No
 * wait between two questions keeps the process alive.
 */
export async function metadata (path: string, env: NodeJS.ProcessEnv, patience = 0): Promise<string | undefined> {
  const url = `http://${env.GCE_METADATA_HOST || 'metadata.google.internal'}/computeMetadata/v1/${path}`
  const asked = answers.get(url) ?? (patience === 0 ? ask(url) : askPatiently(url, patience))
  answers.set(url, asked)
  const answer = await asked
  if (answer === undefined && patience === 0) answers.delete(url)
  return answer
}

/**
 * Again where it was too late: what keeps this process from reading the answer (imports, at the start) is over then.
 */
async function ask (url: string, tries = TRIES): Promise<string | undefined> {
  try {
    return await read(url)
  } catch (error) {
    const late = (error as { code?: string }).code === 'ABORT_ERR'
    return late && tries > 1 ? ask(url, tries - 1) : undefined // nobody is there: what is unknown is left out
  }
}

async function askPatiently (
  url: string, patience: number, deadline = performance.now() + patience * PATIENT_WAITS
): Promise<string | undefined> {
  const left = () => Math.ceil(deadline - performance.now())
  try {
    return await read(url, Math.min(TIMEOUT, left()))
  } catch (error) {
    if (left() <= patience || NOWHERE.has((error as { code?: string }).code ?? '')) return undefined
    await wait(patience, undefined, { ref: false })
    return left() <= 0 ? undefined : askPatiently(url, patience, deadline)
  }
}

/** Not by `fetch`, whose first call loads more than the rest of a cold start may cost. */
function read (url: string, timeout = TIMEOUT): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const request = get(url, { headers: { 'metadata-flavor': 'Google' }, agent: false, signal: AbortSignal.timeout(timeout) }, response => {
      text(response).then(body => resolve(response.statusCode === 200 ? body.trim() || undefined : undefined), reject)
    })
    request.on('error', reject)
  })
}
