"""What the shop offers over HTTP."""

from __future__ import annotations

import json

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

import jobqueue
from shop.models import Order, Parcel


@csrf_exempt
@require_POST
def place(request: HttpRequest) -> HttpResponse:
    """Place an order: the order, its parcel and its receipt's job exist together or not at all."""
    with transaction.atomic():
        order = Order.objects.create(customer=json.loads(request.body)["customer"])
        Parcel.objects.create(order=order)
        jobqueue.enqueue(connection, "receipt", {"order_id": order.pk}, unique_key=f"receipt {order.pk}")
    return JsonResponse({"id": order.pk}, status=201)


@require_GET
def show(request: HttpRequest, order_id: int) -> HttpResponse:
    """Show an order and what became of it."""
    order = get_object_or_404(Order, pk=order_id)
    parcel = Parcel.objects.get(order=order)
    return JsonResponse({"customer": order.customer, "receipt": order.receipt, "tracking": parcel.tracking_code})
