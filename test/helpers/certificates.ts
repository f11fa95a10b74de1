import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { findProgram } from './programs.js'

const run = promisify(execFile)

export interface Certificate {
  /** Files in PEM format. */
  readonly cert: string
  readonly key: string
}

export interface CertificateRequest {
  /** The common name. */
  cn: string
  /** Alternative names as openssl writes them: `IP:127.0.0.1`, `DNS:redis`. `@default` none */
  san?: string[]
  /** Days that it is valid from now; negative: it has expired. `@default` 2 */
  days?: number
}

export interface Authority {
  /** Its own certificate, in PEM format. */
  readonly file: string
  issue (request: CertificateRequest): Promise<Certificate>
}

/** A folder that is removed when the test ends. */
export async function temporaryFolder (t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'crws-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A certificate authority of the test's own, made with openssl. */
export async function createAuthority (t: Test): Promise<Authority> {
  const folder = await temporaryFolder(t)
  const openssl = (...args: string[]) => run(findProgram('openssl')!, args, { cwd: folder })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=authority', '-days', '2')
  let count = 0
  return {
    file: join(folder, 'ca.pem'),
    issue: async ({ cn, san = [], days = 2 }) => {
      const name = `server-${++count}`
      await openssl('req', '-new', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${cn}`)
      await writeFile(join(folder, `${name}.ext`), san.length === 0 ? 'basicConstraints=CA:FALSE' : `subjectAltName=${san.join(',')}`)
      const from = ['-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', `${name}.ext`]
      await openssl('x509', '-req', ...from, '-out', `${name}.pem`, '-days', String(days))
      return { cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) }
    }
  }
}
