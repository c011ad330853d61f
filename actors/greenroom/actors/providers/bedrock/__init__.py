"""Amazon Bedrock's Converse wire."""

from greenroom.actors.providers.bedrock.codec import BedrockConverse as BedrockConverse
