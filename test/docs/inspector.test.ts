import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { startKeyServer } from '../helpers/key-server.ts'

t.test('the page behind IAP is for those whom IAP has signed for this service', async (t) => {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const server = await startKeyServer(t)
  server.keys.push({ ...await exportJWK(publicKey), kid: 'one', alg: 'ES256' })
  setEnvironment(t, { PORT: '0', IAP_KEYS: server.url, IAP_AUDIENCE: '/projects/1/locations/europe-west1/services/tools' })
  const { app } = await importBlock(t, 'docs/inspector.md', 'inspect-iap', 'app')
  t.teardown(() => app.close())
  const statusFor = async (audience: string) => {
    const assertion = await new SignJWT({ email: 'ada@example.com' }).setProtectedHeader({ alg: 'ES256', kid: 'one' })
      .setIssuer('https://cloud.google.com/iap').setAudience(audience).setExpirationTime('10m').sign(privateKey)
    return (await app.inject({ url: '/inspect', headers: { 'x-goog-iap-jwt-assertion': assertion } })).statusCode
  }
  t.equal(await statusFor(process.env.IAP_AUDIENCE!), 200)
  t.equal(await statusFor('another'), 401)
  t.equal((await app.inject('/inspect')).statusCode, 401)
})

t.test('a browser asks for the password', async (t) => {
  setEnvironment(t, { PORT: '0', INSPECT_PASSWORD: 'of:development' })
  const { app } = await importBlock(t, 'docs/inspector.md', 'inspect-password', 'app')
  t.teardown(() => app.close())
  const answerTo = (login: string) => app.inject({ url: '/inspect', headers: { authorization: `Basic ${Buffer.from(login).toString('base64')}` } })
  t.equal((await answerTo('ada:of:development')).statusCode, 200)
  t.match(await answerTo('ada:wrong'), { statusCode: 401, headers: { 'www-authenticate': 'Basic realm="inspector"' } })
  t.match(await app.inject('/inspect'), { statusCode: 401, headers: { 'www-authenticate': 'Basic realm="inspector"' } })
})
