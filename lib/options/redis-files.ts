import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { RedisCredentials } from '../model/redis-credentials.ts'
import { invalidOption } from './problems.ts'

/** The user that Redis takes a password without a name for. */
export const DEFAULT_USER = 'default'

const CERTIFICATE = /-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs

/**
 * A `credentialsProvider` for node-redis: the password is what a file holds, without one newline at its end. The file
 * is read for every new connection, so a secret that is mounted may change while the app runs.
 * @param username A user of Redis' ACL.
 * @example
 * { redis: { url: 'rediss://10.0.0.3:6378', credentialsProvider: fileCredentials('/secrets/redis/password') } }
 */
export function fileCredentials (path: string, username: string = DEFAULT_USER): RedisCredentials {
  return passwordFile(path, username, `the file ${path}`)
}

export function passwordFile (path: string, username: string, origin: string): RedisCredentials {
  let reading: Promise<string> | undefined
  // Attempts share one read: a mount that hangs must not take all threads of the file system.
  const read = () => {
    reading ??= readFile(path, 'utf8').finally(() => { reading = undefined })
    return reading
  }
  const credentials = async () => {
    let text: string
    try {
      text = await read()
    } catch (error) {
      throw new Error(`no password for Redis: ${origin} cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error })
    }
    const password = text.replace(/\r?\n$/, '')
    if (password === '') throw new Error(`no password for Redis: ${origin} is empty`)
    return { username, password }
  }
  return { type: 'async-credentials-provider', credentials, origin }
}

/**
 * Reads a file that the environment names. An error does not show the value: a secret may have been put there by
 * mistake.
 * @throws FST_CRWS_INVALID_OPTION
 */
export function readNamedFile (path: string, name: string, allowed: string): string {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw invalidOption(name, `a path that cannot be read (${(error as NodeJS.ErrnoException).code})`, allowed)
  }
  if (text.trim() === '') throw invalidOption(name, 'the path of an empty file', allowed)
  return text
}

/** Reads the CA certificates that the environment names. @throws FST_CRWS_INVALID_OPTION */
export function readCertificates (path: string, name: string): string[] {
  const allowed = 'the path of a file in PEM format with the CA certificates of Redis'
  const certificates = readNamedFile(path, name, allowed).match(CERTIFICATE) ?? []
  if (certificates.length === 0) throw invalidOption(name, 'the path of a file without a certificate', allowed)
  try {
    for (const certificate of certificates) new X509Certificate(certificate) // eslint-disable-line no-new
  } catch {
    throw invalidOption(name, 'the path of a file with a certificate that is not valid PEM', allowed)
  }
  return certificates
}
