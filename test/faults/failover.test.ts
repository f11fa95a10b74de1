import type { Test } from 'tap'
import { command, startRedis } from '../helpers/redis.ts'
import type { RedisServer } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { FaultProxy } from './proxy.ts'
import { testFault } from './service.ts'
import type { Service } from './service.ts'

/** Starts a replica whose link to the primary can be held back. */
async function startReplica (t: Test, primary: RedisServer) {
  await command(primary.port, ['CONFIG', 'SET', 'repl-diskless-sync-delay', '0'])
  const proxy = await FaultProxy.start(primary.port)
  t.teardown(() => proxy.close())
  const replica = await startRedis(t, { args: ['--replicaof', `127.0.0.1 ${proxy.port}`] })
  await until(async () => /master_link_status:up/.test(await command(replica.port, ['INFO', 'replication'])), 'the replica is in step', 30_000)
  return { replica, proxy }
}

/** Makes the replica the primary of some instances. */
async function promote (service: Service, replica: RedisServer, instances = service.instances): Promise<void> {
  await command(replica.port, ['REPLICAOF', 'NO', 'ONE'])
  for (const { proxy } of instances) {
    proxy.target = replica.port
    proxy.cut()
  }
}

testFault('Redis fails over to a replica that has everything', async (service) => {
  const { replica } = await startReplica(service.t, service.redis)
  await service.published(5)
  for (const { proxy } of service.instances) proxy.refuse()
  await until(async () => await offset(service.redis) === await offset(replica), 'the replica has everything')
  await service.redis.kill()
  for (const { proxy } of service.instances) proxy.heal()
  await promote(service, replica)
  await service.allReady(true)
})

testFault('Redis fails over to a replica that lagged behind', async (service) => {
  const { replica, proxy } = await startReplica(service.t, service.redis)
  proxy.freeze()
  await service.published(10)
  await service.redis.kill()
  await promote(service, replica)
  await service.allReady(true)
})

testFault('split brain: one instance stays with the old primary for a while', async (service) => {
  const { replica, proxy } = await startReplica(service.t, service.redis)
  proxy.refuse()
  await promote(service, replica, service.instances.slice(1))
  await service.published(50)
  await promote(service, replica)
  await service.allReady(true)
})

async function offset ({ port }: RedisServer): Promise<string | undefined> {
  return /^(?:master_repl|slave_repl)_offset:(\d+)/m.exec(await command(port, ['INFO', 'replication']))?.[1]
}
