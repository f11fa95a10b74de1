import { testFault } from './service.ts'

testFault('the links to Redis are cut, ten times', async (service) => {
  for (let i = 0; i < 10; i++) {
    for (const { proxy } of service.instances) proxy.cut()
    await service.published(2)
  }
})

testFault('Redis cannot be reached', async (service) => {
  for (const { proxy } of service.instances) proxy.refuse()
  await service.allReady(false)
  for (const { proxy } of service.instances) proxy.heal()
  await service.allReady(true)
})

for (const [name, ...directions] of [
  ['nothing from Redis arrives at an instance, though the link is open', 'down'],
  ['nothing from an instance arrives at Redis, though the link is open', 'up'],
  ['the link of an instance is dead, though it is open', 'up', 'down']
] as const) {
  testFault(name, async (service) => {
    const [broken] = service.instances
    broken!.proxy.swallow(...directions)
    await service.ready(broken!, false)
    broken!.proxy.heal()
    await service.ready(broken!, true)
  })
}

testFault('the links to Redis are delayed by 300 ms', async (service) => {
  for (const { proxy } of service.instances) proxy.delay(300)
  await service.published(5)
  for (const { proxy } of service.instances) proxy.heal()
})

testFault('the links to Redis carry 20 KB a second', async (service) => {
  for (const { proxy } of service.instances) proxy.throttle(20_000)
  await service.published(20)
  for (const { proxy } of service.instances) proxy.heal()
})

testFault('the link of an instance freezes, and continues', async (service) => {
  const [frozen] = service.instances
  frozen!.proxy.freeze()
  await service.ready(frozen!, false)
  frozen!.proxy.heal()
  await service.ready(frozen!, true)
})
