import { expect, test, vi } from 'vitest'
import { buildApp } from './app.js'

test('an app is built and asked without a network', async () => {
  const app = await buildApp({ redis: false })
  expect((await app.inject('/health')).statusCode).toBe(200)
  const publish = vi.spyOn(app.realtime, 'publish')
  expect(await app.realtime.publish('news', 'hello')).toEqual({})
  expect(publish).toHaveBeenCalledWith('news', 'hello')
  await app.close()
})
