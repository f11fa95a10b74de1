import t from 'tap'
import { BrokerEvents } from '../../lib/core/broker-events.ts'
import { Control } from '../../lib/core/control.ts'
import { Observer } from '../../lib/observability/observer.ts'

t.test('what the broker has lost, and commands that were lost, are told to the observer', async (t) => {
  const told: unknown[] = []
  const logs = { missed: (...args: unknown[]) => { told.push(args) } }
  const metrics = { missed: (count: number) => { told.push(count) } }
  const observer = new Observer('me', logs as never, metrics as never, {} as never, {} as never)
  new BrokerEvents({} as never, {} as never, {} as never, {} as never, observer).missed('room', 2, 'lost')
  new Control('me', {} as never, {} as never, observer).missed(3, 'lost')
  t.strictSame(told, [2, ['room', 2, 'lost'], ['\u0000control', 3, 'lost']])
})
