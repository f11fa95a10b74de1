import type { AuthClient } from 'google-auth-library'
import type { RedisCredentials } from '../model/redis-credentials.ts'
import { withTimeout } from '../util/timeout.ts'

const SCOPE = 'https://www.googleapis.com/auth/cloud-platform'
/** ms that the metadata server or the token endpoint may take. */
const TOKEN_TIMEOUT = 3_000

/** Where the password of `iamCredentials` comes from, for people. */
export const IAM_ORIGIN = 'a Google access token'

/** Returns the authorization headers. Each call returns a token that is valid now. @throws CredentialsError */
export type GoogleHeaders = () => Promise<Record<string, string>>

/**
 * The library asks once whether there is a metadata server, and keeps the answer for the life of the process, and of
 * each GoogleAuth. GKE's comes up after the pod, so it has to ask anew.
 */
function newAuth ({ GoogleAuth, gcpMetadata }: typeof import('google-auth-library'), projectId: string) {
  gcpMetadata.resetIsAvailableCache()
  return new GoogleAuth({ scopes: SCOPE, projectId })
}

/**
 * By application default credentials. The library keeps a token until it is about to expire; without the project it
 * would start gcloud to ask.
 */
export function googleHeaders (library: typeof import('google-auth-library'), projectId: string): GoogleHeaders {
  let client: AuthClient | undefined
  const headers = async () => {
    client ??= await newAuth(library, projectId).getClient()
    return Object.fromEntries((await client.getRequestHeaders()).entries())
  }
  return async () => {
    try {
      return await withTimeout(headers(), TOKEN_TIMEOUT, 'none')
    } catch (error) {
      throw new CredentialsError((error as Error).message, { cause: error })
    }
  }
}

/** No token was to be had. */
export class CredentialsError extends Error {}

/**
 * A `credentialsProvider` for node-redis, for Memorystore with IAM authentication: the password is an access token of
 * the service account (application default credentials), fetched anew for every connection. A connection that is open
 * outlives its token. Needs the package `google-auth-library`.
 * @example
 * { redis: { url: 'rediss://10.0.0.3:6379', credentialsProvider: iamCredentials() } }
 */
export function iamCredentials (): RedisCredentials {
  return tokenCredentials(() => import('google-auth-library'))
}

export function tokenCredentials (load: () => Promise<typeof import('google-auth-library')>): RedisCredentials {
  const newToken = async () => {
    const library = await load()
    // A new one each time: it would keep a token that Redis has just refused. Google does not look at the project.
    return newAuth(library, 'any').getAccessToken()
  }
  const credentials = async () => {
    try {
      // Google checks the token alone, and calls every account by this name.
      return { username: 'default', password: await withTimeout(newToken(), TOKEN_TIMEOUT, 'none') as string }
    } catch (error) {
      throw new CredentialsError(`no Google access token for Redis: ${tokenFailure(error as Error & { code?: string })}`, { cause: error })
    }
  }
  return { type: 'async-credentials-provider', credentials, origin: IAM_ORIGIN }
}

function tokenFailure ({ code, message }: Error & { code?: string }): string {
  // An error that comes through a loader in a thread of its own has lost its code.
  const missing = code === 'ERR_MODULE_NOT_FOUND' || /^Cannot find (?:package|module) /.test(message)
  if (missing) return 'a package is missing. Run: npm install google-auth-library'
  return `${message.replace(/\.+$/, '')}. On Google Cloud, give the service a service account; elsewhere, set GOOGLE_APPLICATION_CREDENTIALS`
}
