"""A chat room with Django Channels: what one says, all hear.

Run: palfrey --app-dir examples channels_chat:application, and open http://127.0.0.1:8000/ in two windows.

Shown here: a consumer, a group, and pages of other sites kept out by their Origin. The channel layer is this process's;
for more than one worker channels_redis takes its place, and nothing else changes.
"""

from __future__ import annotations

import os

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse
from django.urls import path

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chat.html")

if not settings.configured:
    settings.configure(
        DEBUG=False,
        SECRET_KEY="an example has no secrets",
        ALLOWED_HOSTS=["127.0.0.1", "localhost", "[::1]"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["channels"],
        CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}},
        USE_TZ=True,
    )


class Chat(AsyncWebsocketConsumer):
    """One member of the room."""

    async def connect(self):
        self.name = self.scope["url_route"]["kwargs"]["name"]
        await self.accept()
        await self.channel_layer.group_add("room", self.channel_name)
        await self.say(f"{self.name} joined")

    async def disconnect(self, code):
        await self.channel_layer.group_discard("room", self.channel_name)
        await self.say(f"{self.name} left")

    async def receive(self, text_data=None, bytes_data=None):
        await self.say(f"{self.name}: {text_data}")

    async def say(self, line):
        await self.channel_layer.group_send("room", {"type": "room.line", "line": line})

    async def room_line(self, event):
        """What the group was sent: each member has it called."""
        await self.send(text_data=event["line"])


def page(request):
    return FileResponse(open(PAGE, "rb"), content_type="text/html")  # Django closes it


urlpatterns = [path("", page)]
django.setup()
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(URLRouter([path("chat/<str:name>", Chat.as_asgi())])),
    }
)
