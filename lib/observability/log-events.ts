/** The `event` of each entry and its level; a test compares this list with the reference's. */
export const logEvents = {
  'plugin.started': 'info',
  'connection.opened': 'info',
  'connection.closed': 'info',
  'connection.rejected': 'warn',
  'connection.slow': 'warn',
  'connection.failed': 'error',
  'listener.failed': 'error',
  'authenticate.failed': 'error',
  'command.refused': 'debug',
  'token.refused': 'debug',
  'memory.short': 'warn',
  'memory.freed': 'info',
  'drain.started': 'info',
  'drain.finished': 'info',
  'bridge.down': 'error',
  'bridge.up': 'info',
  'redis.refused': 'error',
  'publications.missed': 'warn',
  'keys.failed': 'error',
  'keys.restored': 'info',
  'control.failed': 'warn',
  'call.failed': 'warn',
  'survey.incomplete': 'warn',
  'handler.failed': 'error',
  'api.refused': 'warn',
  'api.failed': 'warn',
  'api.error': 'error',
  'inspect.published': 'warn',
  'inspect.disconnected': 'warn',
  hint: 'warn',
  'message.received': 'info',
  'message.sent': 'info',
  'logging.failed': 'error',
  'logging.restored': 'info',
  'logging.dropped': 'warn',
  'telemetry.started': 'info',
  'telemetry.failed': 'warn',
  'telemetry.recovered': 'info'
} as const satisfies Record<string, 'debug' | 'info' | 'warn' | 'error'>

export type LogEvent = keyof typeof logEvents

/** What somebody does on the page of `inspectPath`. */
export type InspectEvent = 'inspect.published' | 'inspect.disconnected'
