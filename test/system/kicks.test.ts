import t from 'tap'
import { startApp } from '../helpers/app.ts'
import { encodings, sdkClient } from '../helpers/sdk.ts'

/** The SDKs have this rule; a kick must not get in its way. */
for (const [how, reason] of [['disconnect', undefined], ['disconnect', ''], ['disconnect', 'banned'], ['close', undefined], ['close', ''], ['close', 'banned']] as const) {
  t.test(`${how} with ${reason === undefined ? 'no reason' : `the reason '${reason}'`}: the code alone decides whether an SDK stays away`, async (t) => {
    const { app, url } = await startApp(t, { authenticate: () => ({ user: 'ann' }) })
    for (const encoding of encodings) {
      for (const code of [undefined, 1000, 3503, 3500, 3999, 4500, 4999]) {
        const client = await sdkClient(t, url, encoding).connected()
        await kick(code)
        const end = await client.disconnected()
        t.equal(end.code, code === undefined || code === 1000 ? 3503 : code, `${encoding} ${code}`)
        t.not(end.reason, '')
        t.equal(client.client.state, 'disconnected')
        t.equal(client.events.connected.length, 1)
      }
      for (const code of [3000, 3499, 4000, 4499]) {
        const client = await sdkClient(t, url, encoding).connected()
        await kick(code)
        await client.connected(2)
        t.strictSame(client.events.disconnected, [], `${encoding} ${code}`)
        client.client.disconnect()
      }
    }

    async function kick (code: number | undefined) {
      if (how === 'disconnect') return app.realtime.disconnect('ann', { code, reason })
      for (const connection of app.realtime.connections) connection.close(code, reason)
    }
  })
}
