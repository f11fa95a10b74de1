import { command } from '../helpers/redis.ts'
import { testFault } from './service.ts'
import type { Instance } from './service.ts'

testFault('Redis crashes and comes back with its data', async (service) => {
  await service.redis.kill()
  await service.allReady(false)
  await service.redis.restart()
  await service.allReady(true)
}, { redis: { persist: true } })

testFault('Redis freezes, and continues', async (service) => {
  service.redis.freeze()
  await service.allReady(false)
  service.redis.thaw()
  await service.allReady(true)
})

testFault('Redis crashes and comes back empty', async (service) => {
  await service.redis.kill()
  await service.redis.restart()
  await service.allReady(true)
})

testFault('Redis crashes and comes back with an older snapshot', async (service) => {
  await command(service.redis.port, ['SAVE'])
  await service.published(10)
  await service.redis.kill()
  await service.redis.restart()
  await service.allReady(true)
})

testFault('all data is deleted', async (service) => {
  await command(service.redis.port, ['FLUSHALL'])
  await service.published(5)
})

testFault('the scripts are deleted while publications are under way', async (service) => {
  const [{ proxy }] = service.instances as [Instance]
  proxy.delay(20) // the other instance loads the script again while publications of this one are on their way
  for (let i = 0; i < 30; i++) {
    await command(service.redis.port, ['SCRIPT', 'FLUSH'])
    await service.published(2)
  }
}, { pipelined: 50 })
