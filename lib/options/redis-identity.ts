import { isIP } from 'node:net'
import { checkServerIdentity } from 'node:tls'
import type { PeerCertificate } from 'node:tls'

/**
 * Whether a certificate, which one of the CAs in REDIS_CA_FILE has signed, is that of the server at `host`. Node.js
 * looks for an IP address among the alternative names (SAN) alone. Memorystore may have it as the common name (CN),
 * which counts if the SAN has no IP address, as it does for host names. Anything else is refused.
 */
export function checkRedisIdentity (host: string, certificate: PeerCertificate): Error | undefined {
  if (checkServerIdentity(host, certificate) === undefined) return undefined
  const { subject, subjectaltname = '' } = certificate
  const names = [subjectaltname, ...[subject?.CN ?? []].flat().map(name => `CN ${name}`)].filter(name => name !== '')
  if (isIP(host) !== 0 && !/\bIP Address:/.test(subjectaltname) && subject?.CN === host) return undefined
  return new Error(
    `the certificate of Redis is for ${names.join(', ') || 'nobody'}, not for ${host}. Connect to the address that it names, or give ` +
    'the option redis with TLS settings of your own'
  )
}
