// The three kinds of app that the paper part is about. Their figures are assumptions: change them to your own.

const PAYLOAD = 200

export const apps = [
  {
    name: 'chat in rooms of 50',
    /** Everybody is in one room and writes every 30 s. */
    at: (instances, each) => ({
      ...base(instances, each),
      channels: Math.ceil(instances * each / 50),
      publications: instances * each / 30,
      history: true,
      presence: true,
      joinLeave: true,
      byClients: true
    })
  },
  {
    name: 'one room for all',
    /** A ticker or a live event: ten publications a second. */
    at: (instances, each) => ({ ...base(instances, each), channels: 1, publications: 10, history: true, historySize: 1_000 })
  },
  {
    name: 'a channel per user',
    /** Notifications: each user gets one a minute. */
    at: (instances, each) => ({
      ...base(instances, each),
      channels: instances * each,
      publications: instances * each / 60,
      history: true,
      historySize: 20
    })
  }
]

const base = (instances, each) => ({
  instances,
  connections: instances * each,
  payload: PAYLOAD,
  channelBytes: 16,
  userBytes: 8,
  sdk: true
})

/** CPU and memory of an instance. */
export const size = { vcpu: 1, gib: 1 }
