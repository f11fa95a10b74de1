import type { AuthClient } from 'google-auth-library'
import { withTimeout } from '../util/timeout.ts'

const SCOPE = 'https://www.googleapis.com/auth/cloud-platform'
/** ms that the metadata server or the token endpoint may take. */
const TOKEN_TIMEOUT = 3_000

/** Returns the authorization headers. Each call returns a token that is valid now. @throws CredentialsError */
export type GoogleHeaders = () => Promise<Record<string, string>>

/**
 * By application default credentials. The library keeps a token until it is about to expire; without the project it
 * would start gcloud to ask.
 */
export function googleHeaders ({ GoogleAuth }: typeof import('google-auth-library'), projectId: string): GoogleHeaders {
  const auth = new GoogleAuth({ scopes: SCOPE, projectId })
  let client: AuthClient | undefined
  const headers = async () => {
    client ??= await auth.getClient()
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
