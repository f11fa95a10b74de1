import t from 'tap'
import type { PeerCertificate } from 'node:tls'
import { checkRedisIdentity } from '../../lib/options/redis-identity.ts'

const check = (host: string, CN: string | string[] | undefined, subjectaltname?: string) =>
  checkRedisIdentity(host, { subject: CN === undefined ? {} : { CN }, subjectaltname } as unknown as PeerCertificate)?.message

t.test('an address may be among the alternative names, or be the common name', async (t) => {
  t.equal(check('10.0.0.3', 'redis', 'IP Address:10.0.0.3'), undefined)
  t.equal(check('10.0.0.3', '10.0.0.3'), undefined)
  t.equal(check('10.0.0.3', '10.0.0.3', 'DNS:redis.example'), undefined, 'a name says nothing about addresses')
  t.equal(check('::1', '::1'), undefined)
  t.equal(check('redis.example', 'other', 'DNS:redis.example'), undefined)
  t.equal(check('redis.example', 'redis.example'), undefined, "as Node.js' own check")
})

t.test('any other name is refused, with the names that the certificate has', async (t) => {
  t.match(check('10.0.0.3', '10.0.0.4'), /the certificate of Redis is for CN 10\.0\.0\.4, not for 10\.0\.0\.3\. Connect to/)
  t.match(check('10.0.0.3', '10.0.0.3', 'IP Address:10.0.0.4'), /for IP Address:10\.0\.0\.4, CN 10\.0\.0\.3, not for 10\.0\.0\.3/)
  t.match(check('10.0.0.3', ['10.0.0.3', '10.0.0.4']), /CN 10\.0\.0\.3, CN 10\.0\.0\.4/, 'two common names are none')
  t.match(check('redis.example', 'redis.example', 'DNS:other.example'), /for DNS:other\.example, CN redis\.example/)
  t.match(check('10.0.0.3', undefined), /is for nobody/)
  t.match(check('10.0.0.30', '10.0.0.3'), /not for 10\.0\.0\.30/)
})
