/** What every gRPC server and client of the house shares: channel and server options, credentials, errors on the wire. */
export type { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js';
