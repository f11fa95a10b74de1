import t from 'tap'
import { UsageError } from '../../lib/cli/command.ts'
import { parseOptions } from '../../lib/cli/plan/options.ts'

const inputOf = (...args: string[]) => parseOptions(args).input

function thrownBy (args: string[]): unknown {
  try {
    return parseOptions(args)
  } catch (error) {
    return error
  }
}

t.test('every option has a default', async (t) => {
  t.strictSame(parseOptions([]), {
    help: false,
    json: false,
    svg: undefined,
    prices: undefined,
    input: {
      connections: 10_000,
      average: 10_000,
      messages: 2 * 10_000 / 60,
      channelSize: 50,
      channels: 1,
      size: 200,
      history: 100,
      presence: false,
      sdk: false,
      region: 'us-central1',
      target: 0.9,
      concurrency: 1_000,
      perInstance: undefined,
      vcpu: 1,
      memory: 1,
      minInstances: 1,
      redis: 'valkey',
      replicas: 1,
      loadBalancer: false,
      lifetime: 60,
      traffic: 'unknown',
      kubernetes: false,
      tabs: 1
    }
  })
})

t.test('the average is a number or a percentage of the peak', async (t) => {
  t.equal(inputOf('--connections', '5000', '--average', '40%').average, 2_000)
  t.equal(inputOf('--connections', '5000', '--average', '40').average, 40)
})

t.test('messages are per connection and minute, or in all and second', async (t) => {
  t.equal(inputOf('--connections', '600', '--messages-each', '3').messages, 30)
  t.equal(inputOf('--messages', '0.5').messages, 0.5)
})

t.test('users with several tabs are connections', async (t) => {
  t.match(inputOf('--users', '300', '--tabs', '10'), { connections: 3_000, tabs: 10 })
})

t.test('a channel may have all connections', async (t) => {
  t.equal(inputOf('--channel-size', 'all').channelSize, Infinity)
})

t.test('a wrong value is an error that says what is allowed', async (t) => {
  const wrong: [string[], string | RegExp][] = [
    [['--connections', '0'], '--connections is "0". Allowed: a whole number from 1 to 10000000'],
    [['--connections', '1.5'], /^--connections is "1\.5"\. Allowed: a whole number/],
    [['--connections', ''], /^--connections is ""\. Allowed: a whole number/],
    [['--tabs', 'two'], '--tabs is "two". Allowed: a whole number from 1'],
    [['--average', '0'], '--average is "0". Allowed: a number up to that of the connections, or a percentage of it such as 40%'],
    [['--average', '101%'], /^--average is "101%"/],
    [['--average', 'half'], /^--average is "half"/],
    [['--messages', '-1'], /^plan: Option '--messages' argument is ambiguous/],
    [['--messages=-1'], '--messages is "-1". Allowed: a number from 0'],
    [['--messages', 'Infinity'], /^--messages is "Infinity"/],
    [['--channel-size', 'some'], '--channel-size is "some". Allowed: a whole number from 1, or all'],
    [['--concurrency', '1'], '--concurrency is "1". Allowed: a whole number from 2 to 1000'],
    [['--target', '1'], '--target is "1". Allowed: a number from 0.1 to 0.95'],
    [['--vcpu', '3'], '--vcpu is "3". Allowed: 1, 2, 4, 6 or 8'],
    [['--region', 'Belgium'], '--region is "Belgium". Allowed: a region, such as europe-west1'],
    [['--redis', 'cluster'], '--redis is "cluster". Allowed: valkey or redis'],
    [['--traffic', 'wild'], '--traffic is "wild". Allowed: steady or bursty'],
    [['--users', '5', '--connections', '5'], /^--users and --connections exclude each other/],
    [['--messages', '5', '--messages-each', '5'], '--messages and --messages-each exclude each other'],
    [['--conections', '5'], /^plan: Unknown option '--conections'.*plan --help lists the options$/s],
    [['20000'], /^plan: Unexpected argument '20000'/]
  ]
  for (const [args, message] of wrong) {
    t.throws(() => parseOptions(args), { message }, args.join(' '))
    t.ok(thrownBy(args) instanceof UsageError)
  }
})
