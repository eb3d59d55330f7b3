/**
 * Node.js layers for opencode-turn.
 *
 * @since 0.1.0
 */
export { InvalidConfig, type Live, LiveLayer } from "./LiveLayer.ts"
export * as OpencodeServer from "./OpencodeServer.ts"
export * as SqliteClient from "./SqliteClient.ts"
export * as SqlMigrations from "./SqlMigrations.ts"
export * as SqlSessionStore from "./SqlSessionStore.ts"
export * as TerminalGate from "./TerminalGate.ts"
