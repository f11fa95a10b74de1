import { testFault } from './service.ts'

testFault('all instances are replaced, three times', async (service) => {
  for (let i = 0; i < 3; i++) {
    for (const instance of service.instances.slice()) {
      await service.replace(instance)
      await service.published(5)
    }
  }
})
